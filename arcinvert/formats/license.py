"""The license of weights: what their file states, else what is known of a file with this digest."""

from collections.abc import Mapping
from typing import Any

from arcinvert.checkpoint import UNSTATED, stated_license
from arcinvert.formats.hub import KNOWN_MODELS, downloads

GENERATED = (
    "research only until settled: made from images of a generator whose weights derive from StyleGAN2 and FFHQ, "
    "both non-commercial (checkpoints/MODEL_CARD.md)"
)
"""Of what is made from the synthetic faces."""
GENERATOR = (
    "Apache-2.0 (random-face, Sergei Belousov); research only until settled: its weights derive from StyleGAN2 and "
    "FFHQ, both non-commercial (checkpoints/MODEL_CARD.md)"
)
DLIB = "CC0 (dlib, Davis King)"
SHIPPED = {
    "22a15257278a09d67a367a911bdddc97134ff10ea0af13a4a469f80a249508a0": GENERATED,
    "014c8e797cfc7cc983b8e762bde39a0d290f4934e30d48f9744b9b3473598bbf": GENERATED,
    "4de2577344c7f48232882704acbd8c0139ea250011d923917df72b41c3a51272": DLIB,
}
"""Digest of a file that ships with arcinvert -> its license."""


def license_of(header: Mapping[str, Any], digest: str) -> str:
    """The license of a weight file in one line; "not stated" if neither its header nor its digest tells.

    Args:
        header: of the checkpoint.
        digest: SHA-256 of the file: known are the shipped files, the known models of the hub, and downloads.
    """
    stated = stated_license(header)
    return stated if stated != UNSTATED else license_of_digest(digest)


def license_of_digest(digest: str) -> str:
    """The license of a known file; "not stated" of any other."""
    if digest in SHIPPED:
        return SHIPPED[digest]
    known = [model.license for model in KNOWN_MODELS.values() if model.sha256 == digest]
    return known[0] if known else downloads().get(digest, UNSTATED)
