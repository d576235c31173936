"""A whole audit of a store whose recognizer nobody opens: the tiny network, turned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_black_box_pairs import TURN

from arcinvert.audit import AuditConfig, LeakageReport
from arcinvert.audit.black_box.box import NAME, open_black_box
from arcinvert.errors import InputError, UsageError
from arcinvert.recognizer import Recognizer


def turned(recognizer: Recognizer, files: list[Path]) -> np.ndarray:
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in files])
    return recognizer.embed(images.permute(0, 3, 1, 2)).numpy() @ TURN


@pytest.fixture(scope="module")
def folder(tiny_recognizer: Recognizer, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``store.npz`` and ``pairs.npz``, both by the system; read-only."""
    found = tmp_path_factory.mktemp("black box")
    enrolled = [tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in range(2)]
    labels = np.array([path.parent.name for path in enrolled])
    np.savez(found / "store.npz", embeddings=turned(tiny_recognizer, enrolled), labels=labels)
    others = [tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in range(2, 6)]
    named = np.array([path.relative_to(tiny_faces).as_posix() for path in others])
    np.savez(found / "pairs.npz", embeddings=turned(tiny_recognizer, others), picture=named)
    return found


@pytest.fixture(scope="module")
def config(audit_config: AuditConfig) -> AuditConfig:
    return replace(audit_config, show_faces=True)


@pytest.fixture(scope="module")
def first(
    run_audit: Any, config: AuditConfig, folder: Path, tiny_faces: Path, tiny_recognizer: Recognizer
) -> tuple[LeakageReport, Path]:
    """The audit without scores, and its folder."""
    box = open_black_box(str(folder / "pairs.npz"), tiny_faces, tiny_recognizer)
    return run_audit(config, folder / "store.npz", black_box=box, out=folder / "out"), folder / "out"


def test_the_report_says_that_the_recognizer_was_never_opened(first: tuple[LeakageReport, Path]) -> None:
    report, out = first
    assert report.black_box is not None
    assert (report.black_box.map.pairs, report.black_box.fed_back) == (24, False)
    assert report.black_box.skipped == 12  # pictures that no row names
    assert report.black_box.map.cosine > 0.95
    assert "never opened" in report.limitations[0]
    assert "24 pairs" in report.limitations[1]
    assert [judge.name for judge in report.judges] == ["other", "tiny"]
    assert "never opened" in (out / "report.html").read_text()
    assert (report.store.size, report.store.kind) == (16, "npz")
    assert LeakageReport.read(out / "report.json") == report


def test_a_perfect_map_is_as_good_as_the_network(
    first: tuple[LeakageReport, Path],
    run_audit: Any,
    config: AuditConfig,
    folder: Path,
    tiny_faces: Path,
    tiny_recognizer: Recognizer,
) -> None:
    opened = run_audit(config)
    box = open_black_box(str(folder / "pairs.npz"), tiny_faces, tiny_recognizer)
    back = replace(box.map, weight=TURN.T.copy(), mean_from=np.zeros(16, "f"), mean_to=np.zeros(16, "f"))
    report = run_audit(config, folder / "store.npz", black_box=replace(box, map=back))
    assert report.attack.cosine == pytest.approx(opened.attack.cosine, abs=1e-3)
    fitted, _ = first
    assert fitted.reidentification.tried == opened.reidentification.tried == 4
    assert fitted.photos is not None
    assert fitted.photos.enrolled == 4


def test_scores_add_the_system_as_a_judge_without_a_second_attack(
    first: tuple[LeakageReport, Path],
    run_audit: Any,
    config: AuditConfig,
    folder: Path,
    tiny_faces: Path,
    tiny_recognizer: Recognizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, out = first
    faces = sorted((out / "faces").iterdir())
    rows = turned(tiny_recognizer, faces)
    np.savez(tmp_path / "scores.npz", embeddings=rows[:3], picture=np.array([path.name for path in faces[:3]]))
    monkeypatch.setattr("arcinvert.inversion.invert.invert", None)  # the faces are there
    box = open_black_box(str(folder / "pairs.npz"), tiny_faces, tiny_recognizer, scores=str(tmp_path / "scores.npz"))
    report = run_audit(config, folder / "store.npz", black_box=box, out=out)
    assert report.black_box is not None
    assert report.black_box.fed_back
    assert report.judges[1:] == before.judges
    system = report.judges[0]
    assert (system.name, system.attacked) == (NAME, False)
    assert "1 reconstructions" in str(system.note)
    store = np.load(folder / "store.npz")["embeddings"]
    positions = [int(path.stem) for path in faces]
    expected = np.mean([rows[n] @ store[positions[n]] for n in range(3)])
    found = {rate.kind: rate for rate in system.rates if rate.fmr == 1e-2}
    assert found["type I"].cosine == pytest.approx(expected, abs=1e-3)
    assert {kind: rate.tried for kind, rate in found.items()} == dict.fromkeys(
        ("type I", "type II", "control: shuffled targets", "control: second photo"), 4
    )
    assert not (out / "attack").exists()


def test_what_is_refused(
    run_audit: Any, config: AuditConfig, folder: Path, tiny_faces: Path, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    box = open_black_box(str(folder / "pairs.npz"), tiny_faces, tiny_recognizer)
    with pytest.raises(UsageError, match="no --defense"):
        run_audit(replace(config, defenses=("int8",)), folder / "store.npz", black_box=box)
    np.save(tmp_path / "store.npy", np.random.default_rng(0).normal(size=(400, 12)))
    with pytest.raises(InputError, match=r"12-d.*the unknown system are 16-d.*give pairs"):
        run_audit(config, tmp_path / "store.npy", black_box=box)
    np.savez(tmp_path / "scores.npz", embeddings=np.ones((1, 16)), picture=np.array(["x.png"]))
    wrong = replace(box, scores=str(tmp_path / "scores.npz"))
    with pytest.raises(InputError, match="names one of the reconstructions: 'x"):
        run_audit(config, folder / "store.npz", black_box=wrong)
