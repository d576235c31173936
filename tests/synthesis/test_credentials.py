"""Content credentials: what a reader of C2PA finds in the images, and which certificates are refused."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

c2pa = pytest.importorskip("c2pa", reason="needs c2pa-python: pip install '.[c2pa]'")
from certificates import CA, SERVER, issue, write_chain, write_key, write_signer  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: E402

import arcinvert  # noqa: E402
from arcinvert.errors import EnvironmentProblem, InputError, UsageError  # noqa: E402
from arcinvert.inversion.reconstruct import Settings  # noqa: E402
from arcinvert.inverter import Inverter  # noqa: E402
from arcinvert.synthesis import credentials as credentials_module  # noqa: E402
from arcinvert.synthesis.credentials import LABEL, SOURCE_TYPES, ContentCredentials  # noqa: E402
from arcinvert.synthesis.job import synthesize  # noqa: E402
from arcinvert.synthesis.sheets import SYNTHETIC, read_png, write_png  # noqa: E402

IMAGE = torch.randint(0, 256, (64, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SETTINGS = Settings(steps=2, batch_size=2, variations=2, record=True)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def credentials(signer: tuple[Path, Path]) -> ContentCredentials:
    return ContentCredentials.load(*signer)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Validation state, manifest, and its assertions by label; no failure but that the authority is unknown."""
    with c2pa.Reader(f"image/{path.suffix[1:]}", io.BytesIO(path.read_bytes())) as reader:
        found = json.loads(reader.json())
    manifest = found["manifests"][found["active_manifest"]]
    failures = {one["code"] for one in found["validation_results"]["activeManifest"]["failure"]}
    assert failures == {"signingCredential.untrusted"}
    return found["validation_state"], manifest, {one["label"]: one["data"] for one in manifest["assertions"]}


def test_a_reader_finds_who_made_the_image_and_from_what(credentials: ContentCredentials, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    digest = write_png(path, IMAGE, replace(credentials, recognizer="ab" * 32))
    state, manifest, assertions = read(path)
    assert state == "Valid"
    generator = manifest["claim_generator_info"][0]
    assert (generator["name"], generator["version"]) == ("arcinvert", arcinvert.__version__)
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert assertions[LABEL] == {"description": SYNTHETIC, "recognizer_sha256": "ab" * 32}
    assert "thumbnail" not in manifest
    assert "time" not in manifest["signature_info"]
    assert digest == digest_of(path)
    assert torch.equal(read_png(path), IMAGE)
    with Image.open(path) as image:
        assert image.text["Description"] == SYNTHETIC


def test_a_changed_pixel_is_found(credentials: ContentCredentials, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", IMAGE, credentials)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-40] ^= 1
    with c2pa.Reader("image/png", io.BytesIO(bytes(data))) as reader:
        assert reader.get_validation_state() == "Invalid"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ec.generate_private_key(ec.SECP521R1()), "es512"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA"],
)
def test_the_algorithm_is_that_of_the_key(tmp_path: Path, key: Any, algorithm: str) -> None:
    credentials = ContentCredentials.load(*write_signer(tmp_path, key))
    assert credentials.algorithm == algorithm
    write_png(tmp_path / "a.png", IMAGE, credentials)
    assert read(tmp_path / "a.png")[0] == "Valid"


def test_a_key_in_openssls_older_form_is_read_and_never_shown(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain, _ = write_signer(tmp_path, key)
    path = write_key(tmp_path / "old.pem", key, form="TraditionalOpenSSL")
    assert b"BEGIN EC PRIVATE KEY" in path.read_bytes()
    credentials = ContentCredentials.load(chain, path)
    assert b"BEGIN PRIVATE KEY" in credentials.key
    assert "PRIVATE" not in repr(credentials)
    assert "CERTIFICATE" not in repr(credentials)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, whose commands it runs")
def test_the_commands_of_the_page_make_a_test_certificate(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/credentials.md").read_text()
    (block,) = [block for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) if block.startswith("openssl")]
    subprocess.run(["bash", "-e", "-c", block], cwd=tmp_path, check=True, capture_output=True)
    assert ContentCredentials.load(tmp_path / "chain.pem", tmp_path / "key.pem").algorithm == "es256"


# --- what is refused


def test_keys_that_do_not_fit_are_refused(signer: tuple[Path, Path], tmp_path: Path) -> None:
    chain, key = signer
    other = write_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1()))
    locked = write_key(tmp_path / "locked.pem", ec.generate_private_key(ec.SECP256R1()), password=b"secret")
    kind = write_key(tmp_path / "kind.pem", ed448.Ed448PrivateKey.generate())
    for path, message in (
        (other, "expected the key of the first certificate.*other.pem"),
        (locked, "without a password, got the encrypted.*locked.pem"),
        (kind, "got another kind in.*kind.pem"),
        (chain, "expected a private key in PEM, got.*chain.pem"),
        (tmp_path / "none.pem", "cannot read.*none.pem.*No such file"),
    ):
        with pytest.raises(InputError, match=message):
            ContentCredentials.load(chain, path)
    with pytest.raises(InputError, match=r"expected certificates in PEM, got.*key.pem"):
        ContentCredentials.load(key, key)


def test_certificates_that_c2pa_does_not_take_are_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = write_key(tmp_path / "key.pem", key)
    ca, leaf = issue(CA), issue(key)
    for certificates, message in (
        ([issue(key, issuer=key)], "got the self-signed.*chain.pem"),
        ([ca, leaf], "got the self-signed"),
        ([issue(key, days=(-9, -1)), ca], "C2PA refuses: .*not valid at time of signing"),
        ([issue(key, usage=SERVER), ca], "emailProtection, got one that C2PA refuses: .*invalid"),
    ):
        with pytest.raises(InputError, match=message):
            ContentCredentials.load(write_chain(tmp_path / "chain.pem", *certificates), pem)


def test_a_large_file_is_not_read(signer: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "MAX_PEM", 100)
    with pytest.raises(InputError, match=r"at most 0 MiB, got.*chain.pem"):
        ContentCredentials.load(*signer)


@pytest.mark.parametrize("module", ["c2pa", "cryptography"])
def test_a_missing_extra_is_named(signer: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[c2pa\]'"):
        ContentCredentials.load(*signer)


# --- nothing is contacted


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_names_a_responder_makes_no_request(
    asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, paths = asked
    credentials = ContentCredentials.load(*write_signer(tmp_path, ocsp=address))
    write_png(tmp_path / "a.png", IMAGE, credentials)
    assert paths == []
    settings = {"verify": {"ocsp_fetch": True}, "builder": {"certificate_status_fetch": "all"}}
    monkeypatch.setattr(credentials_module, "SETTINGS", settings)
    write_png(tmp_path / "a.png", IMAGE, credentials)
    assert paths, "the server is not asked even where c2pa is told to ask"


# --- the job


def test_all_images_of_a_job_are_signed_and_stay_as_they_are(
    tiny_inverter: Inverter,
    targets: torch.Tensor,
    credentials: ContentCredentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "signed"

    def run(folder: Path, by: ContentCredentials | None) -> dict[str, Any]:
        return synthesize(tiny_inverter, targets[:1], folder, settings=SETTINGS, report=False, credentials=by)

    unsigned, manifest = run(plain, None), run(out, credentials)
    names = {"0000_00.png", "0000_01.png", "sheet.png", "0000_00.webp", "0000_00.plot.png"}
    assert {path.name for path in out.iterdir()} == {*names, "manifest.json"}
    for name in names:
        state, _, assertions = read(out / name)
        assert state == "Valid"
        assert assertions[LABEL]["recognizer_sha256"] == tiny_inverter.recognizer.digest
        source = "dataDrivenMedia" if "plot" in name else "trainedAlgorithmicMedia"
        assert assertions["c2pa.actions.v2"]["actions"][0]["digitalSourceType"] == SOURCE_TYPES + source
        with Image.open(plain / name) as one, Image.open(out / name) as other:
            assert one.tobytes() == other.tobytes()
            assert getattr(one, "n_frames", 1) == getattr(other, "n_frames", 1)
    assert [row["sha256"] for row in manifest["results"]] == [
        digest_of(out / row["file"]) for row in manifest["results"]
    ]
    assert manifest["run"] == unsigned["run"] | {"c2pa_certificate": credentials.fingerprint}

    monkeypatch.setattr("arcinvert.inversion.reconstruct.invert", None)  # nothing is computed again
    before = {row["file"]: digest_of(out / row["file"]) for row in manifest["results"]}
    assert run(out, credentials)["results"] == manifest["results"]
    assert {name: digest_of(out / name) for name in before} == before
    assert read(out / "sheet.png")[0] == "Valid"
    for folder, by in ((out, None), (plain, credentials)):
        with pytest.raises(UsageError, match="another job"):
            run(folder, by)
