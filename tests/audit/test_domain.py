"""On what a judge's thresholds are fixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arcinvert.audit import thresholds
from arcinvert.audit.domain import domain_faces, fixed_on
from arcinvert.audit.judges import Judge, ThresholdFaces, folder_faces, make_judge
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="module")
def faces(tiny_faces: Path) -> ThresholdFaces:
    return folder_faces(tiny_faces)


@pytest.fixture(scope="module")
def judge(tiny_recognizer: Recognizer, faces: ThresholdFaces) -> Judge:
    """As if its thresholds were those of synthetic faces."""
    return make_judge("tiny", tiny_recognizer, replace(faces, folder=False))


def test_each_image_counts_once_and_folders_of_one_name_are_one_person(faces: ThresholdFaces) -> None:
    assert domain_faces(None, None) is None
    assert domain_faces(faces, None) is faces
    half = replace(faces, images=faces.images[:12], labels=faces.labels[:12])
    both = domain_faces(faces, half)
    assert both is not None
    assert len(both.images) == 36
    assert np.bincount(both.labels).tolist() == [6] * 6
    other = domain_faces(faces, replace(half, images=255 - half.images))
    assert other is not None
    assert np.bincount(other.labels).tolist() == [12, 12, 6, 6, 6, 6]


def test_the_audited_domain_then_a_public_set_then_synthetic_faces(
    judge: Judge, faces: ThresholdFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {t.basis for t in fixed_on(judge, faces, faces, {}).thresholds} == {"photos"}
    few = replace(faces, images=faces.images[:24], labels=faces.labels[:24])  # four people
    found = fixed_on(judge, few, faces, {})
    assert {t.basis for t in found.thresholds} == {"synthetic faces"}
    assert found.thresholds == judge.thresholds == found.synthetic
    row = {"fmr": 0.01, "threshold": 0.3, "low": 0.29, "high": 0.31, "impostor_pairs": 9, "impostor_identities": 5}
    table = {judge.recognizer.digest: ("Some set", [row | {"effective_pairs": 7.0}])}
    monkeypatch.setattr(thresholds, "_public", lambda: table)
    found = fixed_on(judge, None, faces, {})
    assert [(t.basis, t.threshold, t.effective_pairs) for t in found.thresholds] == [("public set", 0.3, 7.0)]
    assert "Some set" in found.source


def test_a_threshold_that_is_given_has_the_rate_of_the_domain(judge: Judge, faces: ThresholdFaces) -> None:
    wide = fixed_on(judge, faces, faces, {}).thresholds[0]
    assert wide.threshold is not None
    *_, own = fixed_on(judge, faces, faces, {"tiny": wide.threshold}).thresholds
    assert own.given
    assert own.threshold == wide.threshold
    assert own.fmr == pytest.approx(0.01, abs=0.008)
    assert own.basis == "photos"
