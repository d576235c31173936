r"""The same templates give the same audit, whatever they are stored in.

The slow test does so with real networks and pictures. For more than three people, another network than the default
checkpoint, and more steps (``-s`` prints the rates)::

    ARCINVERT_AUDIT_IDENTITIES=60 ARCINVERT_AUDIT_CHECKPOINT=y1.safetensors ARCINVERT_AUDIT_STEPS=60 \
        pytest -s tests/audit/test_audit_store_kinds.py -k real
"""

import importlib.util
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arcinvert.audit import AttackConfig, AuditConfig, LeakageReport, audit, open_store
from arcinvert.audit.judges import prior_faces
from arcinvert.audit.sample import read_sample
from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer

_SPEC = importlib.util.spec_from_file_location("writing_of_stores", Path(__file__).parent / "stores" / "writing.py")
assert _SPEC is not None
assert _SPEC.loader is not None
writing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(writing)


def crops(paths: list[Path]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths]).permute(0, 3, 1, 2)


def compared(report: LeakageReport) -> LeakageReport:
    """A report without the kind of its store, and times."""
    return replace(
        report,
        store=replace(report.store, kind="", name=""),
        hygiene=(),
        run=replace(report.run, fingerprint="", seconds=0, date=""),
    )


def in_postgres(server: str, templates: np.ndarray, names: list[str]) -> str:
    """The address of a new database that holds them as pgvector's columns."""
    import psycopg

    name = f"kinds{len(templates)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name}")
        connection.execute(f"create database {name}")
    address = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute(f"create table f (embedding vector({templates.shape[1]}), identity text)")
        for row, person in zip(templates, names, strict=True):
            connection.execute("insert into f values (%s, %s)", (str(row.tolist()), person))
    return address


@pytest.fixture(scope="module")
def templates(tiny_recognizer: Recognizer, tiny_faces: Path) -> np.ndarray:
    """Two pictures of each of six people."""
    return tiny_recognizer.embed(crops([tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in (0, 1)])).numpy()


NAMES = [f"id{n // 2}" for n in range(12)]


@pytest.mark.parametrize("kind", writing.FILES)
def test_the_same_sample_is_drawn(kind: str, templates: np.ndarray, tmp_path: Path) -> None:
    path = writing.write_store(kind, tmp_path, templates, NAMES)
    found = read_sample(open_store(str(path)), 4, 0)
    np.savez(tmp_path / "known.npz", embeddings=templates, labels=np.array(NAMES))
    known = read_sample(open_store(str(tmp_path / "known.npz")), 4, 0)
    assert found.positions.tolist() == known.positions.tolist()
    assert found.identities == known.identities == [NAMES[position] for position in found.positions]
    assert torch.equal(found.targets, known.targets)
    assert torch.equal(found.seconds, known.seconds)
    rows = torch.from_numpy(templates[found.positions])
    assert (found.targets - torch.nn.functional.normalize(rows)).abs().max() < 1e-6
    second = torch.from_numpy(templates[found.positions ^ 1])  # rows 2i and 2i + 1 are one person's
    assert (found.seconds - torch.nn.functional.normalize(second)).abs().max() < 1e-6


def written(inverter: Inverter, faces: Path, places: list[str]) -> list[LeakageReport]:
    config = AuditConfig(sample=3, attack=AttackConfig(steps=2), calibration_faces=faces, photos=faces)
    return [compared(audit(open_store(place), inverter, config=config)) for place in places]


@pytest.fixture(scope="module")
def inverter(tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration) -> Inverter:
    return Inverter(tiny_recognizer, small_prior, tiny_calibration)


def test_the_same_report_is_written(
    templates: np.ndarray, inverter: Inverter, tiny_faces: Path, tmp_path: Path
) -> None:
    places = [str(writing.write_store(kind, tmp_path, templates, NAMES)) for kind in ("npz", "csv", "sqlite")]
    first, second, third = written(inverter, tiny_faces, places)
    assert first == second == third


def test_postgres_gives_the_same_report(
    postgres: str, templates: np.ndarray, inverter: Inverter, tiny_faces: Path, tmp_path: Path
) -> None:
    places = [in_postgres(postgres, templates, NAMES), str(writing.write_store("npz", tmp_path, templates, NAMES))]
    first, second = written(inverter, tiny_faces, places)
    assert first == second


@pytest.fixture(scope="module")
def held_out(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two pictures of the last identities of the archive, ``NNNNN/KK.jpg``."""
    archive, count = test_data / "faces" / "images.tar", int(os.environ.get("ARCINVERT_AUDIT_IDENTITIES", "3"))
    if not archive.is_file():
        pytest.skip(f"no faces at {archive}")
    folder = tmp_path_factory.mktemp("held_out")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile() and member.name.endswith(("/00.jpg", "/01.jpg"))]
        last = sorted({Path(member.name).parent.name for member in members})[-count:]
        for member in members:
            if Path(member.name).parent.name in last:
                tar.extract(member, folder, filter="data")
    return folder


@pytest.mark.slow
def test_real_templates_give_the_same_report_in_every_kind(
    held_out: Path,
    test_data: Path,
    tmp_path: Path,
    postgres: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    # Thresholds on few synthetic faces: a thousand would take nearly all of the time, alike for each kind.
    monkeypatch.setattr("arcinvert.audit.judges.THRESHOLD_FACES", 64)
    prior_faces.cache_clear()
    request.addfinalizer(prior_faces.cache_clear)
    named = os.environ.get("ARCINVERT_AUDIT_CHECKPOINT")
    attacked, steps = Inverter.load(named), int(os.environ.get("ARCINVERT_AUDIT_STEPS", "2"))
    judge = Recognizer.load(test_data / "models" / "mobileface-v3.onnx")
    people = sorted(path.name for path in held_out.iterdir())
    rows = attacked.recognizer.embed(crops([held_out / name / f"0{n}.jpg" for name in people for n in (0, 1)])).numpy()
    config = AuditConfig(photos=held_out, calibration_faces=held_out, attack=AttackConfig(steps=steps))
    names = [name for name in people for _ in (0, 1)]
    reports = {}
    for kind in writing.FILES:
        (tmp_path / kind).mkdir()
        store = open_store(str(writing.write_store(kind, tmp_path / kind, rows, names)))
        reports[kind] = compared(audit(store, attacked, judges={"mobileface-v3": judge}, config=config))
    store = open_store(in_postgres(postgres, rows, names))
    reports["postgres"] = compared(audit(store, attacked, judges={"mobileface-v3": judge}, config=config))
    for kind, report in reports.items():
        assert report == reports["npy"], kind
    for judge_result in reports["npy"].judges:
        print(judge_result.name, *judge_result.rates, sep="\n")
