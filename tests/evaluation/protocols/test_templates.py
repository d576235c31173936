"""Templates against a loop over templates and media, their verification against a scan, and the lists."""

from pathlib import Path

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.protocols.labeled_sets import template_folder
from arcinvert.evaluation.protocols.templates import (
    Members,
    halves,
    identify_templates,
    pool,
    verify_templates,
)
from arcinvert.evaluation.readers.template_lists import read_members, read_sets, read_template_pairs


def unit(seed: int, count: int, size: int = 12) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some_members(*, scores: bool) -> Members:
    draw = np.random.default_rng(0)
    templates = np.concatenate([np.arange(9), draw.integers(0, 9, 51)])
    weights = draw.uniform(0, 1, 60) if scores else None
    return Members(templates, draw.integers(100, 104, 60), draw.integers(0, 40, 60), draw.integers(0, 4, 9), weights)


@pytest.mark.parametrize("scores", [False, True])
def test_pooling_against_a_loop(scores: bool) -> None:
    rows, members = unit(0, 40), some_members(scores=scores)
    pooled = pool(rows, members)
    assert pooled.dtype == np.float32
    for template in range(9):
        inside = [m for m in range(60) if members.templates[m] == template]
        media = []
        for medium in {int(members.media[m]) for m in inside}:
            frames = [m for m in inside if members.media[m] == medium]
            weighted = [rows[members.rows[m]] * (members.scores[m] if scores else 1.0) for m in frames]
            media.append(sum(weighted) / len(frames))
        expected = np.mean(media, axis=0)
        assert np.allclose(pooled[template], expected / np.linalg.norm(expected), atol=1e-6)


def test_a_long_video_does_not_outvote_a_still() -> None:
    rows = np.eye(2, dtype=np.float32)
    members = Members(
        np.zeros(11, np.int64), np.r_[np.zeros(10, int), 1], np.r_[np.zeros(10, int), 1], np.zeros(1, int)
    )
    assert pool(rows, members) == pytest.approx(np.full((1, 2), np.sqrt(0.5)))
    apart = Members(members.templates, np.arange(11), members.rows, members.subjects)
    assert pool(rows, apart) == pytest.approx(np.array([[10, 1]]) / np.sqrt(101))


def test_verification_against_a_scan() -> None:
    subjects = np.random.default_rng(1).integers(0, 12, 80)
    centers = unit(2, 12)
    rows = centers[subjects] + 0.25 * unit(3, 80)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = np.random.default_rng(4).integers(0, 80, (2000, 2))
    found = verify_templates(rows, pairs, subjects=subjects, fprs=(0.1, 0.01, 1e-3, 1e-6))
    cosine = np.array([float((rows[a].astype(float) * rows[b]).sum()) for a, b in pairs])
    same = np.array([subjects[a] == subjects[b] for a, b in pairs])
    for point in found.points[:2]:
        tried = [t for t in [*cosine, 2.0] if (cosine[~same] >= t).mean() <= point.fmr]
        assert point.tar == pytest.approx((cosine[same] >= min(tried)).mean())
        assert (point.impostor_pairs, point.genuine_pairs) == ((~same).sum(), same.sum())
    assert [point.tar is None for point in found.points] == [False, False, True, True]
    assert "fewer than 3" in found.points[3].reason
    assert (found.templates, found.pairs, found.note) == (80, 2000, None)


def test_identification_is_the_mean_over_the_galleries() -> None:
    # Gallery 0 holds subjects 0 and 1, gallery 1 subject 2 and 3; the probe of 1 looks like 0, that of 3 like 2.
    rows = np.eye(6, dtype=np.float32)[[0, 1, 2, 3, 0, 0, 2, 2, 2]]
    subjects = np.array([0, 1, 2, 3, 0, 1, 2, 3, 2])
    found = identify_templates(rows, np.arange(4, 9), galleries=(np.array([0, 1]), np.array([2, 3])), subjects=subjects)
    assert [[rate.rate for rate in one.ranks] for one in found.galleries] == [[0.5], [pytest.approx(2 / 3)]]
    assert found.rank1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert [(one.mated, one.unmated) for one in found.galleries] == [(2, 3), (3, 2)]
    assert found.rank5 is None  # a gallery of two has no rank 5


def test_halves_of_a_folder() -> None:
    labels = np.array([7, 3, 7, 3, 5, 7, 3, 3])
    members, pairs, probes, galleries = halves(labels)
    made = [[members.rows[members.templates == t].tolist(), int(members.subjects[t])] for t in range(4)]
    assert made == [[[1, 3], 3], [[6, 7], 3], [[0, 2], 7], [[5], 7]]  # identity 5 has a single picture
    assert sorted(map(tuple, pairs)) == [(0, 1), (0, 3), (2, 1), (2, 3)]
    assert probes.tolist() == [1, 3]
    assert [gallery.tolist() for gallery in galleries] == [[0], [2]]


def test_the_pairs_of_a_large_folder_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcinvert.evaluation.protocols.templates.MAX_COMPARED", 5)
    _, pairs, _, _ = halves(np.repeat(np.arange(20), 2))
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 100
    assert (pairs[:, 0] // 2 == pairs[:, 1] // 2).sum() == 20


# --- what the data cannot support, and what does not fit


def test_one_identity_gives_null_and_the_reason() -> None:
    verified, identified = template_folder(unit(0, 4), np.zeros(4, np.int64))
    assert verified.note == "there are no impostor pairs"
    assert all(point.tar is None and point.reason == verified.note for point in verified.points)
    assert identified.rank1 is None
    assert "one identity" in identified.galleries[0].note


def test_no_genuine_pair_gives_null_and_the_reason() -> None:
    found = verify_templates(unit(0, 4), np.array([[0, 1], [2, 3]]), subjects=np.arange(4))
    assert found.note == "there are no genuine pairs"
    assert found.points[0].tar is None


def test_members_that_do_not_fit_are_refused() -> None:
    rows, zero, one = unit(0, 4), np.zeros(2, np.int64), np.arange(2)
    with pytest.raises(InputError, match="rows 0 to 3, got 0 to 9"):
        pool(rows, Members(zero, zero, np.array([0, 9]), zero[:1]))
    with pytest.raises(InputError, match="members of every template"):
        pool(rows, Members(zero, zero, one, zero))
    with pytest.raises(InputError, match="for each member"):
        pool(rows, Members(zero, zero[:1], one, zero[:1]))
    with pytest.raises(InputError, match="detector score"):
        pool(rows, Members(zero, zero, one, zero[:1], np.array([1, np.nan])))
    with pytest.raises(InputError, match="template 0 add up to zero"):
        pool(np.stack([rows[0], -rows[0]]), Members(zero, zero, one, zero[:1]))
    with pytest.raises(InputError, match="identities with two pictures"):
        halves(np.arange(3))
    with pytest.raises(InputError, match="templates 0 to 3, got 0 to 4"):
        verify_templates(rows, np.array([[0, 4]]), subjects=np.arange(4))
    with pytest.raises(InputError, match="shape"):
        verify_templates(rows, np.empty((0, 2), np.int64), subjects=np.arange(4))
    with pytest.raises(InputError, match="at least one gallery"):
        identify_templates(rows, one, galleries=(np.empty(0, np.int64),), subjects=np.arange(4))


# --- the lists


def write(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_lists_are_read_in_any_order_of_columns(tmp_path: Path) -> None:
    text = "row,template,subject,media,score\n4,a,Ann,m1,0.5\n0,b,Bob,m1,1\n2,a,Ann,m2,0\n"
    members, names = read_members(write(tmp_path, "\ufeff" + text))
    assert names == ("a", "b")
    assert members.templates.tolist() == [0, 1, 0]
    assert members.rows.tolist() == [4, 0, 2]
    assert members.subjects.tolist() == [0, 1]
    assert members.media[0] == members.media[1] != members.media[2]
    assert members.scores.tolist() == [0.5, 1.0, 0.0]
    assert read_template_pairs(write(tmp_path, "template_a,template_b\nb,a\n"), names).tolist() == [[1, 0]]
    probes, galleries = read_sets(write(tmp_path, "template,set\nb,g2\na,probe\na,g1\nb,g1\n"), names)
    assert probes.tolist() == [0]
    assert [gallery.tolist() for gallery in galleries] == [[1], [0, 1]]
    unweighted, _ = read_members(write(tmp_path, "template,subject,media,row\na,A,m,0\n"))
    assert unweighted.scores is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no 'template'"),
        ("template,subject,media,row\n", "lines below the header"),
        ("template,subject,media,row\na,A,m,0\na,A,m\n", "line 3: expected 4 cells, got 3"),
        ("template,subject,media,row\na,A,m,-1\n", "line 2: expected a row number from 0, got '-1'"),
        ("template,subject,media,row\na,A,m,0\na,B,m,1\n", "line 3: template 'a' is of a second subject, 'B'"),
        ("template,subject,media,row,score\na,A,m,0,nan\n", "line 2: expected a detector score of at least 0"),
        ('template,subject,media,row\n"a,A,m,0\n', "not a CSV file"),
    ],
)
def test_bad_members_are_refused_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_members(write(tmp_path, text))


def test_bad_pairs_and_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: no member makes template 'z'"):
        read_template_pairs(write(tmp_path, "template_a,template_b\na,z\n"), ("a",))
    with pytest.raises(InputError, match="of a gallery"):
        read_sets(write(tmp_path, "template,set\na,probe\n"), ("a",))
    with pytest.raises(InputError, match="'probe'"):
        read_sets(write(tmp_path, "template,set\na,g1\n"), ("a",))
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read_members(tmp_path / "nothing.csv")
    (tmp_path / "latin.csv").write_bytes(b"template,set\n\xe9,probe\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_sets(tmp_path / "latin.csv", ("a",))
