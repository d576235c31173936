"""A whole audit, with a tiny network and a few steps."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import arcinvert
from arcinvert.audit import AttackConfig, AuditConfig, Gate, LeakageReport
from arcinvert.audit.report import report_schema
from arcinvert.audit.verdict import headline
from arcinvert.errors import InputError, UsageError
from arcinvert.inversion import reconstruct
from arcinvert.recognizer import Recognizer

# --- the report


def test_the_report_is_what_was_written(whole_audit: tuple[LeakageReport, Path]) -> None:
    report, out = whole_audit
    written = json.loads((out / "report.json").read_text())
    assert written == report.to_json()
    assert LeakageReport.read(out / "report.json") == report
    assert sorted(path.name for path in out.iterdir()) == ["faces", "report.html", "report.json"]
    page = (out / "report.html").read_text()
    assert "the owner, 2026-11-23" in page
    assert report.verdict.word in page


def test_the_schema_has_the_keys_and_ranges_of_the_report(whole_audit: tuple[LeakageReport, Path]) -> None:
    schema, told = report_schema(), whole_audit[0].to_json()
    assert set(schema["required"]) == set(schema["properties"]) == set(told)
    assert schema["properties"]["version"]["const"] == 3
    rate = schema["$defs"]["Rate"]["properties"]
    assert set(rate) == set(told["judges"][0]["rates"][0])
    assert rate["rate"]["anyOf"][0] == {"maximum": 1, "minimum": 0, "type": "number"}


@pytest.mark.parametrize(
    ("place", "value"),
    [("judges.0.rates.0.rate", 2), ("verdict.word", "safe"), ("store.digest", "zz"), ("sample.count", -1)],
)
def test_a_report_with_a_wrong_figure_is_refused(
    place: str, value: Any, whole_audit: tuple[LeakageReport, Path], tmp_path: Path
) -> None:
    part = content = whole_audit[0].to_json()
    *path, last = (int(key) if key.isdigit() else key for key in place.split("."))
    for key in path:
        part = part[key]
    part[last] = value
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="not a report"):
        LeakageReport.read(tmp_path / "report.json")


def test_every_judge_has_its_rates_and_controls(whole_audit: tuple[LeakageReport, Path]) -> None:
    report, _ = whole_audit
    assert [(judge.name, judge.attacked) for judge in report.judges] == [("other", False), ("tiny", True)]
    for judge in report.judges:
        found = {(row.kind, row.fmr): row for row in judge.rates}
        assert len(found) == 18
        assert {row.tried for row in found.values()} == {4}
        counted = [t.threshold is not None and not t.extrapolated for t in judge.thresholds]
        assert counted == [True, False, False]  # 540 pairs
        assert all("normal tail" in (t.reason or "") for t in judge.thresholds[1:])
        assert [threshold.fmr for threshold in judge.synthetic_thresholds] == [1e-2, 1e-3, 1e-4]
        known = [row for row in found.values() if row.kind in ("type I", "type II") and row.rate is not None]
        assert all(None not in (row.floor, row.ceiling, row.threshold) for row in known)
        assert all((row.p_value is None) == judge.attacked for row in known)
    own = {row.kind: row for row in report.judges[1].rates if row.fmr == 1e-2}
    assert own["type I"].cosine == pytest.approx(report.attack.cosine, abs=1e-3)
    assert report.photos is not None
    assert report.photos.enrolled == 4
    assert report.sample.identities == report.sample.second_templates == 4
    assert report.reidentification.gallery == 12


def test_without_photos_only_the_attacked_network_judges(run_audit: Any, audit_config: AuditConfig) -> None:
    report = run_audit(replace(audit_config, photos=None))
    assert report.judges[0].rates == ()
    assert "needs --photos" in report.judges[0].note
    rows = [row for row in report.judges[1].rates if row.fmr == 1e-2]
    assert {row.kind: row.tried for row in rows}["type II"] == 4  # the second templates
    found = headline(report.judges, 1e-2)
    assert found is not None
    assert found[0].attacked
    assert any("Only the attacked network judged" in line for line in report.limitations)


def test_the_same_templates_unnamed_are_attacked_alike_but_have_no_second(
    run_audit: Any, audit_config: AuditConfig, audit_store: Path, tmp_path: Path
) -> None:
    with np.load(audit_store) as archive:
        np.save(tmp_path / "bare.npy", archive["embeddings"])
    report = run_audit(replace(audit_config, sample=12, photos=None), source=tmp_path / "bare.npy", judges={})
    assert report.sample.identities is None
    rows = {row.kind: row for row in report.judges[0].rates if row.fmr == 1e-2}
    assert rows["type I"].tried == 12
    assert rows["type II"].tried == 0


# --- restarts, failures, faces


def test_restarts_are_chosen_by_the_attackers_own_score(
    run_audit: Any, audit_config: AuditConfig, whole_audit: tuple[LeakageReport, Path]
) -> None:
    one, three = (
        whole_audit[0],
        run_audit(replace(audit_config, attack=replace(audit_config.attack, restarts=3)), judges={}),
    )
    assert (one.restarts.count, three.restarts.count) == (1, 3)
    assert all(result.best == result.mean for result in one.restarts.results)
    assert three.restarts.results[0].best >= three.restarts.results[0].mean
    assert three.attack.cosine >= one.attack.cosine
    assert three.attack.attempts == 12


def test_attempts_that_failed_stay_in_the_denominator(
    run_audit: Any, audit_config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reconstruct.invert

    def invert(*args: Any, **settings: Any) -> Any:
        found = real(*args, **settings)
        return replace(found, diverged=torch.tensor([True] + [False] * (len(found.diverged) - 1)))

    monkeypatch.setattr(reconstruct, "invert", invert)
    report = run_audit(audit_config, judges={})
    assert report.attack.failed == 2  # the first of each batch of two
    assert {row.tried for judge in report.judges for row in judge.rates} == {4}
    assert report.reidentification.tried == 4
    assert report.reidentification.accepted <= 2
    monkeypatch.setattr(reconstruct, "invert", lambda *a, **s: replace(f := real(*a, **s), diverged=f.diverged | True))
    report = run_audit(audit_config, judges={})
    assert report.attack.failed == 4
    assert report.reidentification.accepted == 0
    assert {row.accepted for row in report.judges[0].rates if row.kind == "type I" and row.fmr == 1e-2} == {0}


def test_faces_are_kept_where_they_are_asked_for(whole_audit: tuple[LeakageReport, Path], tiny_faces: Path) -> None:
    report, out = whole_audit
    faces = sorted((out / "faces").iterdir())
    assert len(faces) == 4
    assert [f"faces/{path.name}" for path in faces] == list(report.files[2:])
    assert "synthetic" in Image.open(faces[0]).text["Description"]  # type: ignore[attr-defined]
    shown = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([a-z ]+) of', (out / "report.html").read_text())
    assert [caption for _, caption in shown] == ["enrolled photo", "reconstruction"] * 4
    images = [base64.b64decode(text) for text, _ in shown]
    assert images[1::2] == [path.read_bytes() for path in faces]
    photos = {np.array(Image.open(path)).tobytes() for path in tiny_faces.glob("*/[01].png")}
    pixels = {np.array(Image.open(io.BytesIO(image))).tobytes() for image in images[::2]}
    assert len(pixels) == 4
    assert pixels <= photos


def test_the_report_says_when_and_with_what_it_was_made(whole_audit: tuple[LeakageReport, Path]) -> None:
    report, out = whole_audit
    age = datetime.now(UTC) - datetime.fromisoformat(report.run.date)
    assert timedelta(0) <= age < timedelta(days=1)
    assert (report.run.version, report.run.command) == (arcinvert.__version__, None)
    assert set(report.run.licenses) >= {"tiny", "other", "face prior"}
    words = (out / "report.html").read_text()
    assert report.run.date[:10] in words
    assert all(judge.digest in words for judge in report.judges)


# --- refused


def test_a_store_of_another_size_is_refused(run_audit: Any, audit_config: AuditConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32))
    with pytest.raises(InputError, match=r"mismatch: .*other\.npy.* 128-d .*dlib.* is 16-d: another network.*--pairs"):
        run_audit(audit_config, source=tmp_path / "other.npy")


def test_a_defense_that_does_not_fit_is_refused_before_the_attack(
    run_audit: Any, audit_config: AuditConfig, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="truncate:17"):
        run_audit(replace(audit_config, defenses=("truncate:17",)), out=tmp_path, judges={})
    assert list(tmp_path.iterdir()) == []


def test_the_attacked_network_is_no_judge(
    run_audit: Any, audit_config: AuditConfig, tiny_recognizer: Recognizer
) -> None:
    with pytest.raises(UsageError, match="'copy' is the attacked network"):
        run_audit(audit_config, judges={"copy": tiny_recognizer})


@pytest.mark.parametrize(
    "settings",
    [{"sample": 0}, {"attack": AttackConfig(restarts=0)}, {"seed": -1}, {"attack": AttackConfig("none")},
     {"defenses": ("nonsense",)}, {"defenses": ("int8",), "attack": AttackConfig("pixels")}],
)  # fmt: skip
def test_settings_that_do_not_fit(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        AuditConfig(**settings)


# --- stores of other models, rows that cannot be used, and defenses


def test_the_store_of_another_model_is_called_a_mismatch(
    run_audit: Any, audit_config: AuditConfig, audit_store: Path, tiny_faces: Path, tmp_path: Path
) -> None:
    with np.load(audit_store) as archive:
        rows = archive["embeddings"]
    for row in range(12):  # as if each image showed another person
        (tmp_path / "photos" / f"p{row}").mkdir(parents=True)
        shutil.copy(tiny_faces / f"id{row // 2}" / f"{row % 2}.png", tmp_path / "photos" / f"p{row}")
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    np.savez(tmp_path / "other.npz", embeddings=rows @ turned, labels=np.array([f"p{row}" for row in range(12)]))
    config = replace(audit_config, sample=12, photos=tmp_path / "photos")
    report = run_audit(config, source=tmp_path / "other.npz", judges={})
    assert report.verdict.word == "mismatch suspected"
    assert report.mismatch.evidence
    assert Gate.parse("sar@1e-2=1").check(report)[0]
    assert report.mismatch.evidence[0] in report.verdict.text


def test_rows_without_a_usable_template_are_counted_and_skipped(
    run_audit: Any, audit_config: AuditConfig, audit_store: Path, tmp_path: Path
) -> None:
    with np.load(audit_store) as archive:
        rows, labels = archive["embeddings"].copy(), archive["labels"]
    rows[3], rows[5, 2] = 0, np.nan
    np.savez(tmp_path / "bad.npz", embeddings=rows, labels=labels)
    report = run_audit(replace(audit_config, sample=12), source=tmp_path / "bad.npz", judges={})
    assert report.skipped_rows == 2
    assert {"zero", "not-finite"} <= {finding.code for finding in report.hygiene}
    assert report.sample.count == 6
    assert report.sample.second_templates == 4


def test_defenses_are_attacked_with_and_without_the_key(whole_audit: tuple[LeakageReport, Path]) -> None:
    report, _ = whole_audit
    assert [(entry.spec, entry.key_known) for entry in report.defenses] == [
        ("none", True), ("int8", True), ("rotate:KEY", True), ("rotate:KEY", False),
    ]  # fmt: skip
    bare, plain, known, blind = report.defenses
    own_rates = {(row.judge, row.kind, row.fmr): row.accepted for judge in report.judges for row in judge.rates}
    assert all(row.accepted == own_rates[row.judge, row.kind, row.fmr] for row in bare.rates)
    assert bare.score == report.attack.cosine
    assert {row.judge for row in plain.rates} == {"other", "tiny"}
    assert known.accuracy.eer == pytest.approx(plain.accuracy.eer, abs=0.02)  # a rotation changes no cosine
    own = [next(row.cosine for row in e.rates if row.judge == "tiny") for e in (plain, known, blind)]
    assert own[1] == pytest.approx(own[0], abs=0.1)
    assert own[2] < own[1]  # the wrong key leads elsewhere
    assert "images of 6 identities" in report.accuracy_on


def test_thresholds_come_from_the_photos_or_from_the_templates(
    run_audit: Any, audit_config: AuditConfig, whole_audit: tuple[LeakageReport, Path]
) -> None:
    other, own = whole_audit[0].judges
    assert {t.basis for t in other.thresholds} == {"photos"}
    assert {(t.impostor_identities, t.impostor_pairs) for t in other.thresholds} == {(6, 540)}  # each image once
    assert {t.basis for t in own.thresholds} == {"photos"}  # the templates show no more people, in fewer pairs
    assert "36 photos of 6 people" in other.thresholds_on
    assert "36 photos of 6 people" in own.thresholds_on
    report = run_audit(replace(audit_config, photos=None, calibration_faces=None), judges={})
    assert {t.basis for t in report.judges[0].thresholds} == {"templates"}
    assert {(t.impostor_identities, t.impostor_pairs) for t in report.judges[0].thresholds} == {(6, 60)}
    assert "12 templates of 6 people" in report.judges[0].thresholds_on


def test_the_systems_own_threshold_is_judged_too(run_audit: Any, audit_config: AuditConfig) -> None:
    report = run_audit(replace(audit_config, thresholds={"other": 0.3}))
    rows = [rate for rate in report.judges[0].rates if rate.given]
    assert len(rows) == 6
    assert {rate.threshold for rate in rows} == {0.3}
    assert "the system's own threshold of 0.3" in report.verdict.text
    with pytest.raises(UsageError, match="'third'"):
        run_audit(replace(audit_config, thresholds={"third": 0.3}))


def test_with_synthetic_thresholds_the_verdict_warns(
    run_audit: Any, audit_config: AuditConfig, tiny_faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "id0").mkdir()
    shutil.copy(tiny_faces / "id0" / "0.png", tmp_path / "id0")
    report = run_audit(replace(audit_config, calibration_faces=None, photos=tmp_path))
    assert {t.basis for t in report.judges[0].thresholds} == {"synthetic faces"}
    assert any("SYNTHETIC" in warning for warning in report.verdict.warnings)
    assert "SYNTHETIC" in report.verdict.text


def test_a_sweep_takes_what_fits_the_store() -> None:
    specs = AuditConfig(sweep=True).specs(16)
    assert "sign" in specs
    assert "truncate:32" not in specs
    assert AuditConfig(sweep=True, defenses=("int8", "int8")).specs(16) == ["int8"]
    assert AuditConfig().specs(16) == []
