import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from arcinvert.errors import InputError, UsageError
from arcinvert.training.purify import CATEGORIES, flank_threshold, purify, read_true_labels, report


def test_against_votes_counted_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(200, 3, generator=generator) * 2 - 1
    labels = torch.randint(0, 9, (200,), generator=generator)
    found = purify(cosines, labels, 10, threshold=80.0)  # the last class has no image
    for label in range(9):
        rows = [row for row in range(200) if int(labels[row]) == label]
        votes = [0, 0, 0]
        for row in rows:
            votes[max(range(3), key=lambda k: float(cosines[row, k]))] += 1
        if votes.count(max(votes)) == 1:
            assert found.dominant[label] == votes.index(max(votes))
        for row in rows:
            angle = math.degrees(math.acos(float(cosines[row, found.dominant[label]])))
            assert found.angles[row] == pytest.approx(angle, abs=1e-4)
            assert found.kept[row] == (angle <= 80.0)
            assert found.on_dominant[row] == (int(cosines[row].argmax()) == found.dominant[label])


def test_a_tie_goes_to_the_closer_one() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.5, 0.0], [0.8, 0.9, 0.0], [0.8, 0.1, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert purify(cosines, labels, 2).dominant.tolist() == [0, 0]
    assert purify(cosines[:, [1, 0, 2]], labels, 2).dominant.tolist() == [1, 1]


def test_votes_count_more_than_nearness() -> None:
    cosines = torch.tensor([[0.2, 0.1], [0.2, 0.1], [-0.9, 1.0]])
    assert purify(cosines, torch.zeros(3, dtype=torch.int64), 1).dominant.tolist() == [0]


def test_the_default_is_75_degrees_and_includes_it() -> None:
    cosines = torch.tensor([[74.9], [75.1], [0.0]], dtype=torch.float64).deg2rad().cos()
    found = purify(cosines, torch.zeros(3, dtype=torch.int64), 1)
    assert found.kept.tolist() == [True, False, True]
    assert found.angles[2] == 0
    assert replace(found, threshold=float(found.angles[1])).kept.all()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 181.0, math.nan])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(UsageError, match="angle"):
        purify(torch.zeros(2, 3), torch.tensor([0, 0]), 1, threshold=threshold)


def test_the_flank_threshold_drops_the_share_asked_for() -> None:
    draw = np.random.default_rng(0)
    right, wrong = draw.normal(60, 6, 6000), draw.normal(85, 6, 4000)
    angles = np.concatenate([right, wrong])
    for lost in (0.05, 0.1, 0.2):
        threshold = flank_threshold(angles, lost)
        assert (right > threshold).mean() == pytest.approx(lost, abs=0.03)
    assert (wrong > flank_threshold(angles)).mean() > 0.99
    moved = draw.permutation(angles + 12)  # it depends on no number of degrees, and on no order
    assert flank_threshold(moved) == pytest.approx(flank_threshold(angles) + 12, abs=0.3)
    cosines = torch.from_numpy(angles).deg2rad().cos()[:, None]
    found = purify(cosines, torch.zeros(10000, dtype=torch.int64), 1, threshold=None)
    assert found.threshold == pytest.approx(flank_threshold(angles), abs=1e-3)
    assert (~found.kept).sum() == (found.angles > found.threshold).sum()


def test_the_flank_threshold_of_a_normal_distribution_is_its_quantile() -> None:
    angles = np.random.default_rng(1).normal(50, 5, 20000)
    assert flank_threshold(angles) == pytest.approx(50 + 5 * 1.2816, abs=0.8)


@pytest.mark.parametrize("angles", [np.full(5, 60.0), np.zeros(0), np.array([60.0] * 9 + [80.0])])
def test_angles_without_a_flank_threshold(angles: np.ndarray) -> None:
    with pytest.raises(InputError, match="nearly equal"):
        flank_threshold(angles)


def test_the_report_counts_the_four_categories() -> None:
    degrees = torch.tensor([[10.0, 90], [20, 90], [80, 90], [90, 30], [85, 40], [10, 90], [30, 80]])
    found = purify(degrees.deg2rad().cos(), torch.tensor([0, 0, 0, 0, 0, 1, 1]), 2)
    assert found.dominant.tolist() == [0, 0]
    result = report(found, [False, True, True, False, True, False, False])
    counts = [(row["images"], row["dropped"]) for row in result["categories"].values()]
    assert tuple(result["categories"]) == CATEGORIES
    assert counts == [(3, 0), (2, 1), (1, 1), (1, 1)]
    assert sum(row["share"] for row in result["categories"].values()) == pytest.approx(1)
    assert (result["images"], result["kept"], result["dropped"], result["on_dominant"]) == (7, 4, 3, 5)
    assert (result["wrong"], result["wrong_found"], result["right_dropped"]) == (3, pytest.approx(2 / 3), 0.25)
    assert (result["identities"], result["identities_left"]) == (2, 2)
    bars = result["histogram"]["all"]
    assert len(bars) == 36
    assert sum(bars) == 7
    assert bars[2] == 2
    assert sum(result["histogram"]["kept"]) == 4
    assert np.sum([row["histogram"] for row in result["categories"].values()], 0).tolist() == bars


def test_a_report_without_truth_and_with_nothing_wrong() -> None:
    found = purify(torch.ones(2, 3) * 0.5, torch.tensor([0, 1]), 3)
    result = report(found)
    assert "categories" not in result
    assert result["identities_left"] == 2
    assert report(found, [False, False])["wrong_found"] is None
    assert report(found, [True, True])["right_dropped"] is None


def test_true_labels(tmp_path: Path) -> None:
    path = tmp_path / "truth.txt"
    path.write_bytes(b"# who\r\nb/1.jpg\ta\r\n\na/2 x.jpg\tb c\nb/3.jpg\tb")
    assert read_true_labels(path, ["a/2 x.jpg", "b/1.jpg"]) == ["b c", "a"]
    with pytest.raises(InputError, match=r"does not name 1 of the images, such as 'c/1\.jpg'"):
        read_true_labels(path, ["b/1.jpg", "c/1.jpg"])


@pytest.mark.parametrize("text", ["a/1.jpg a\n", "a/1.jpg\t\n", "\ta\n", "a/1\tb\na/1\tb\n"])
def test_true_labels_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.txt").write_text(text)
    with pytest.raises(InputError, match="expected identity/image, a tab and an identity in line"):
        read_true_labels(tmp_path / "truth.txt", [])
    with pytest.raises(InputError, match="cannot read the true labels"):
        read_true_labels(tmp_path / "nothing.txt", [])
