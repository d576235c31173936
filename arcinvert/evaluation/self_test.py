"""Self-tests of a checkpoint: what it holds, and whether its image contract is right.

A wrong contract (swapped channels, another scaling) raises no error: the network still gives embeddings, only worse
ones, and hardly worse ones if only the channels are swapped. Two signs reveal it: the statistics of faces differ from
those that the BatchNorm layers store, and a runtime that is known to be right gives other embeddings.
"""

import copy
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.cache import find_calibration
from arcinvert.checkpoint import UNSTATED
from arcinvert.errors import CheckpointError, InputError
from arcinvert.evaluation.metrics import auc, score_pairs
from arcinvert.faceprior.prior import FacePrior
from arcinvert.formats import onnx as onnx_file
from arcinvert.preprocessing import CROPS, FACE, Preprocessing
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

MIN_PARITY = 0.9999
"""Smallest cosine between our embeddings and those of another runtime."""
CLEARLY_BETTER = 0.75
"""Factor by which another contract must be better; equivalent ones differ by a few percent."""
SCALINGS = {
    "(x - 127.5) / 127.5": (127.5, 127.5),
    "(x - 127.5) / 128": (127.5, 128.0),
    "x / 255": (0.0, 255.0),
    "x": (0.0, 1.0),
}
"""Mean and deviation in units of 0..255. Scores cannot tell the first two apart, another runtime can."""

EACH = 4
"""Faces of a person that a network is verified with."""


@dataclass(frozen=True)
class ContractScore:
    """How well identities are separated under one contract.

    Attributes:
        color, scaling: the contract.
        separation: d', the distance between mean genuine and mean impostor score over their pooled deviation.
        auc: of genuine against impostor scores.
        mismatch: distance of the statistics of faces to those of the BatchNorm layers; None without layers.
        parity: smallest cosine to the reference runtime; None without one.
    """

    color: str
    scaling: str
    separation: float
    auc: float
    mismatch: float | None
    parity: float | None


@dataclass(frozen=True)
class ContractCheck:
    """Result of :func:`verify`.

    Attributes:
        faces: number of faces.
        stored: the contract of the checkpoint.
        scores: the stored contract first, then the others.
        mirror: mean cosine of a face to its mirror image.
        parity_mean: mean cosine to the reference runtime; None without one.
        problems: one sentence each; empty if there are none.
    """

    faces: int
    stored: dict[str, Any]
    scores: tuple[ContractScore, ...]
    mirror: float
    parity_mean: float | None
    problems: tuple[str, ...]


def describe(recognizer: Recognizer, prior: FacePrior) -> dict[str, Any]:
    """Content of a checkpoint: network, contract, BatchNorm layers, calibration, thresholds.

    Raises:
        CheckpointError: its calibration is damaged.
    """
    header = recognizer.header
    carried = find_calibration(recognizer)
    kept = None if carried else find_calibration(recognizer, prior)
    contract = contract_of(recognizer.preprocessing)
    return {
        "format": header.get("source", {}).get("format", "arcinvert"),
        "backbone": header.get("backbone"),
        "embedding_size": recognizer.embedding_size,
        "parameters": _parameters(recognizer),
        "contract": {**contract, "from": header.get("source", {}).get("contract", "the checkpoint")},
        "batchnorm": {
            "found": len(recognizer.layers) - len(recognizer.folded),
            "folded": len(recognizer.folded),
            "dropped_channels": recognizer.dropped_channels(),
        },
        "calibration": {"faces": carried.faces, "in": "the checkpoint"}
        if carried
        else {"faces": kept.faces, "in": "the cache"}
        if kept
        else None,
        "thresholds": header.get("validation", {}).get("thresholds", []),
        "license": None if recognizer.license == UNSTATED else recognizer.license,
        "digest": recognizer.digest,
    }


def _parameters(recognizer: Recognizer) -> int:
    """Number of trained parameters; freezing has turned some into buffers."""
    trained: list[Tensor] = [*recognizer.network.parameters()]
    ends = (".scale", ".shift", ".slope", ".value")
    trained += [buffer for name, buffer in recognizer.network.named_buffers() if name.endswith(ends)]
    return sum(tensor.numel() for tensor in trained)


def contract_of(preprocessing: Preprocessing) -> dict[str, Any]:
    """An image contract in units of 0..255."""
    found = asdict(preprocessing)
    return found | {key: [round(255 * value, 6) for value in found[key]] for key in ("mean", "std")}


@torch.no_grad()
def verify(
    recognizer: Recognizer,
    prior: FacePrior,
    *,
    reference: Path | None = None,
    faces: int = 100,
    progress: Progress = silent,
) -> ContractCheck:
    """Embed synthetic faces under every plausible contract, and compare with another runtime.

    Args:
        recognizer: the network to check.
        prior: its faces are used, four of each person.
        reference: an ONNX file of the same network, run by onnxruntime.
        faces: number of faces.
        progress: called with (done, all, text).

    Raises:
        InputError: fewer than 8 faces, or an ONNX file of another embedding size.
    """
    people = min(max(2, faces // EACH), len(prior))
    if people * EACH < 8:
        raise InputError(f"expected at least 8 faces to verify with, got {people * EACH}")
    labels = np.repeat(np.arange(people), EACH)
    shown = prior.portraits(range(people), EACH).flatten(0, 1)
    images = shown.permute(0, 3, 1, 2).float().to(recognizer.device)
    stored = recognizer.preprocessing
    expected = None if reference is None else _run_onnx(reference, _own_crops(images, stored).cpu().numpy())
    if expected is not None and expected.shape[1] != recognizer.embedding_size:
        raise InputError(
            f"{str(reference)!r} is {expected.shape[1]}-d, the checkpoint is {recognizer.embedding_size}-d"
        )
    own = _named(stored)
    candidates = {own: stored}
    for color in ("RGB", "BGR"):
        for name, (mean, std) in SCALINGS.items():
            contract = replace(stored, color=color, mean=(mean / 255,) * 3, std=(std / 255,) * 3)
            candidates.setdefault((color, name), contract)
    if stored.size != (FACE, FACE) or stored.crop is not None:
        for name, crop in {"face": None, **CROPS}.items():
            if crop != stored.crop:
                candidates[own[0], f"{own[1]}, crop {name}"] = replace(stored, crop=crop)
    scores: list[ContractScore] = []
    trial, embedded = copy.copy(recognizer), torch.empty(0)
    for number, (key, contract) in enumerate(candidates.items()):
        trial.preprocessing = contract
        found, mismatch = _embed_with_mismatch(trial, images / 255)
        embedded = embedded if number else found
        scores.append(_score(key, found, mismatch, labels, expected))
        progress(number + 1, len(candidates), "trying contracts")
    mirror = float((embedded * recognizer.embed(images.flip(-1) / 255).cpu()).sum(1).mean())
    agreement = None if expected is None else float((embedded * expected).sum(1).mean())
    problems = tuple(_problems(scores, mirror))
    return ContractCheck(len(images), contract_of(stored), tuple(scores), mirror, agreement, problems)


def _own_crops(images: Tensor, contract: Preprocessing) -> Tensor:
    """The network's crops of faces (N, 3, 112, 112)."""
    return images if contract.size == (FACE, FACE) and contract.crop is None else contract.cropped(images)


def _problems(scores: list[ContractScore], mirror: float) -> list[str]:
    own, found = scores[0], []
    if own.parity is not None and own.parity < MIN_PARITY:
        nearest = max(scores[1:], key=lambda score: score.parity or -1.0)
        agrees = nearest.parity is not None and nearest.parity >= MIN_PARITY
        fits = f"; {nearest.color}, {nearest.scaling} agrees" if agrees else ""
        found.append(f"the other runtime disagrees: cosine {own.parity:.4f}, expected above {MIN_PARITY}{fits}")
    for score in sorted(scores[1:], key=lambda score: math.inf if score.mismatch is None else score.mismatch):
        if score.mismatch is not None and own.mismatch is not None and score.mismatch < CLEARLY_BETTER * own.mismatch:
            found.append(
                f"{score.color}, {score.scaling} fits the BatchNorm statistics better (distance "
                f"{score.mismatch:.3f} against {own.mismatch:.3f} as stored): the contract looks wrong"
            )
            break
    best = max(scores, key=lambda score: score.separation)
    if own.separation < CLEARLY_BETTER * best.separation:
        found.append(
            f"{best.color}, {best.scaling} separates identities better (d' {best.separation:.2f} against "
            f"{own.separation:.2f} as stored): the contract looks wrong"
        )
    if own.auc < 0.9:
        found.append(f"synthetic identities are hardly separated (AUC {own.auc:.3f}): untrained, or a wrong contract")
    if mirror < 0.5:
        found.append(f"a face and its mirror image get different embeddings (cosine {mirror:.2f})")
    return found


def _named(contract: Preprocessing) -> tuple[str, str]:
    given = (*contract.mean, *contract.std)
    for name, (mean, std) in SCALINGS.items():
        if np.allclose(given, (*[mean / 255] * 3, *[std / 255] * 3), atol=1e-6):
            return contract.color, name
    shown = contract_of(contract)
    return contract.color, f"(x - {shown['mean']}) / {shown['std']}"


def _score(
    key: tuple[str, str], rows: Tensor, mismatch: float | None, labels: np.ndarray, expected: Tensor | None
) -> ContractScore:
    scored = score_pairs(rows.numpy(), labels)
    genuine, impostor = scored.genuine, scored.impostor
    pooled = float(np.sqrt((genuine.var() + impostor.var()) / 2))
    return ContractScore(
        *key,
        separation=float(genuine.mean() - impostor.mean()) / max(pooled, 1e-9),
        auc=auc(genuine=genuine, impostor=impostor),
        mismatch=mismatch,
        parity=None if expected is None else float((rows * expected).sum(1).min()),
    )


@torch.no_grad()
def _embed_with_mismatch(recognizer: Recognizer, images: Tensor) -> tuple[Tensor, float | None]:
    """Embeddings (N, D), and the distance of the statistics of the images to those that the BatchNorm layers store.

    Per layer ``(mean - mean*)^2 / var* + (std / std* - 1)^2``, averaged over the usable channels; then the mean over
    the layers, or None without layers.
    """
    stored = {layer: found for layer in recognizer.layers if (found := recognizer.statistics(layer)) is not None}
    stored = {layer: s for layer, s in stored.items() if bool(s.usable.any()) and recognizer.layer_sizes[layer][1] > 1}
    embeddings: list[Tensor] = []
    moments: dict[str, list[Tensor]] = {layer: [] for layer in stored}
    for part in (images[i : i + 16] for i in range(0, len(images), 16)):
        trace = recognizer.trace(part, taps=stored)
        embeddings.append(trace.embedding.cpu())
        for layer, x in trace.activations.items():
            moments[layer].append(torch.stack([x.mean((2, 3)), x.square().mean((2, 3))], 1).cpu().double())
    costs = []
    for layer, parts in moments.items():
        mean, square = torch.cat(parts).mean(0)
        kept, var, usable = (t.cpu() for t in (stored[layer].mean, stored[layer].var, stored[layer].usable))
        cost = (mean - kept).square() / var + (((square - mean.square()).clamp_min(0) / var).sqrt() - 1).square()
        costs.append(cost[usable].mean())
    return torch.cat(embeddings), float(torch.stack(costs).mean()) if costs else None


def _run_onnx(path: Path, images: np.ndarray) -> Tensor:
    """The network's crops (N, 3, H, W) in 0..255 through onnxruntime -> (N, D), unit norm."""
    import onnxruntime

    source = onnx_file.read(path).header["source"]  # rejects files that must not be opened
    inputs = {"0..255": images, "0..1": images / 255, "-1..1": (images - 127.5) / 127.5}[source["input"]]
    inputs = inputs.transpose(0, 2, 3, 1) if source.get("layout") == "channels last" else inputs
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Else sums of int8 products overflow in 16 bits on x64 without VNNI, and an intact file would differ.
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        rows = np.concatenate([session.run(None, {name: image[None].astype(np.float32)})[0] for image in inputs])
    except Exception as error:  # the exceptions of onnxruntime have no common base
        reason = (str(error).splitlines() or ["failed"])[0]
        raise CheckpointError(f"onnxruntime cannot run {str(path)!r}: {reason}") from None
    return normalize(torch.from_numpy(rows.reshape(len(rows), -1)).float())
