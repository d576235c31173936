"""``arcinvert synth --c2pa-certificate``: signed images, and refusals before anything is computed."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

c2pa = pytest.importorskip("c2pa", reason="needs c2pa-python: pip install '.[c2pa]'")
from certificates import CA, issue, write_chain, write_key, write_signer  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

from arcinvert.checkpoint import load_checkpoint  # noqa: E402
from arcinvert.cli import run  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_found")


def test_the_images_name_the_attacked_network(calibrated_checkpoint: Path, tmp_path: Path) -> None:
    chain, key = write_signer(tmp_path)
    np.save(tmp_path / "e.npy", np.eye(16, dtype=np.float32)[0])
    words = ["-q", "synth", "-e", str(tmp_path / "e.npy"), "-o", str(tmp_path / "out"), "--steps", "1", "--no-report"]
    network = ["--checkpoint", str(calibrated_checkpoint)]
    assert run([*words, *network, "--c2pa-certificate", str(chain), "--c2pa-key", str(key)]) == 0
    digest = load_checkpoint(calibrated_checkpoint).digest
    for name in ("0000_00.png", "sheet.png"):
        with c2pa.Reader("image/png", io.BytesIO((tmp_path / "out" / name).read_bytes())) as reader:
            assert reader.get_validation_state() == "Valid"
            (manifest,) = json.loads(reader.json())["manifests"].values()
        assertions = {one["label"]: one["data"] for one in manifest["assertions"]}
        assert assertions["org.arcinvert.reconstruction"]["recognizer_sha256"] == digest


def test_refusals_are_one_line_with_their_exit_code_and_show_no_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    chain, key = write_signer(tmp_path, private)
    other = write_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1()))
    locked = write_key(tmp_path / "locked.pem", private, password=b"secret")
    own = write_chain(tmp_path / "own.pem", issue(private, issuer=private))
    old = write_chain(tmp_path / "old.pem", issue(private, days=(-9, -1)), issue(CA))

    def refused(*words: str | Path) -> tuple[int, str]:
        code = run(["--debug", "synth", "-e", "none.npy", "-o", str(tmp_path / "out"), *map(str, words)])
        text = capsys.readouterr().err
        for file in (key, other, locked):
            assert not any(line in text for line in file.read_text().splitlines()[1:-1])
        return code, text.splitlines()[-1]

    certificate, signer = ("--c2pa-certificate", chain), ("--c2pa-key", key)
    assert refused(*certificate) == (2, "arcinvert: expected --c2pa-certificate and --c2pa-key, got one of them alone")
    for words, message in (
        ((*certificate, "--c2pa-key", other), "expected the key of the first certificate"),
        ((*certificate, "--c2pa-key", locked), "without a password"),
        (("--c2pa-certificate", own, *signer), "the self-signed"),
        (("--c2pa-certificate", old, *signer), "not valid at time of signing"),
    ):
        code, line = refused(*words)
        assert code == 3
        assert message in line
    monkeypatch.setitem(sys.modules, "c2pa", None)
    code, line = refused(*certificate, *signer)
    assert (code, "pip install 'arcinvert[c2pa]'" in line) == (5, True)
    assert not (tmp_path / "out").exists()
