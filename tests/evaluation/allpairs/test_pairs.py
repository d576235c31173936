import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs import pairs, streams
from arcinvert.evaluation.allpairs.pairs import all_pairs
from arcinvert.evaluation.allpairs.streams import BINS, PER_UNIT
from arcinvert.evaluation.allpairs.tiles import sort_rows, tiles
from arcinvert.evaluation.metrics import auc, eer, operating_points, score_pairs

FMRS = [1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5]


def exact_faces(seed: int, count: int, identities: int, *, steps: int = 6, size: int = 16) -> tuple[Tensor, Tensor]:
    """Rows whose dot products float32 holds exactly, in whatever order they are summed, so equal bits can be asked
    for; few ``steps`` make ties. Not of unit norm, but no score leaves [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, identities, (count,), generator=generator)
    centers = torch.randint(-steps, steps + 1, (identities, size), generator=generator)
    rows = centers[labels] + torch.randint(-steps // 2, steps // 2 + 1, (count, size), generator=generator)
    largest = (rows * rows).sum(1).max()
    return rows / 2.0 ** np.ceil(np.log2(float(largest)) / 2), 7 * labels + 3


@pytest.mark.parametrize(
    ("steps", "side", "tail", "whole"),
    [(1, 61, 0, True), (400, 4096, 0, False), (1, 61, 50, True), (400, 61, 50, False), (1, 61, 1 << 23, True)],
)
def test_equal_to_a_full_sort(monkeypatch: pytest.MonkeyPatch, steps: int, side: int, tail: int, whole: bool) -> None:
    """With the tail alone, with histogram and refinement, and with both; random scores and many ties."""
    monkeypatch.setattr(pairs, "TAIL", tail)
    monkeypatch.setattr(streams, "MIN_COLLECTED", 50)
    monkeypatch.setattr(streams, "BUFFER", 500)  # so that the cut rises and the distinct scores are merged
    rows, labels = exact_faces(0, 200, 30, steps=steps)
    scored = score_pairs(rows.numpy(), labels.numpy())
    found = all_pairs(rows, labels, FMRS, whole=whole, side=side)
    assert found.points == operating_points(FMRS, genuine=scored.genuine, impostor=scored.impostor)
    assert (found.whole is not None) == whole
    if found.whole is not None:
        assert (found.whole.eer, found.whole.eer_threshold) == eer(genuine=scored.genuine, impostor=scored.impostor)
        exact = auc(genuine=scored.genuine, impostor=scored.impostor)
        assert abs(found.whole.auc - exact) <= found.whole.auc_error + 1e-12
        for counts, scores in ((found.whole.genuine, scored.genuine), (found.whole.impostor, scored.impostor)):
            edges = np.arange(BINS + 1) / PER_UNIT - 1
            assert np.array_equal(counts, np.histogram(scores, edges)[0])


@pytest.mark.parametrize(("identities", "side"), [(2, 20), (3, 64), (150, 20)])
def test_large_and_small_identities(identities: int, side: int) -> None:
    """Identities that span several tiles, and many that share one."""
    rows, labels = exact_faces(1, 200, identities)
    scored = score_pairs(rows.numpy(), labels.numpy())
    assert all_pairs(rows, labels, FMRS, side=side).points == operating_points(
        FMRS, genuine=scored.genuine, impostor=scored.impostor
    )


@pytest.mark.parametrize("seed", [142, 1079, 1813])
def test_eer_where_fmr_equals_fnmr(seed: int) -> None:
    """1 of 6 genuine pairs is refused where 10 of 60 impostor pairs are accepted; in binary 1 - 5 / 6 is less."""
    assert 1 - 5 / 6 < 10 / 60
    rows, _ = exact_faces(seed, 12, 6)
    labels = torch.arange(12) // 2
    scored = score_pairs(rows.numpy(), labels.numpy())
    scores = (*scored.genuine, *scored.impostor)
    assert any((scored.genuine >= t).sum() == 5 and (scored.impostor >= t).sum() == 10 for t in scores)
    whole = all_pairs(rows, labels, [0.5], whole=True).whole
    assert (whole.eer, whole.eer_threshold) == eer(genuine=scored.genuine, impostor=scored.impostor)


def test_every_pair_once_and_by_identity() -> None:
    rows, labels = exact_faces(2, 150, 12)
    found = all_pairs(rows, labels, [0.1, 1e-6, 0.01], side=32)
    names = np.unique(labels)
    for number, name in enumerate(names):
        own = rows[labels == name]
        scores = (own @ own.T)[np.triu_indices(len(own), 1)]
        assert found.pairs_of[number] == len(scores)
        for point, accepted in zip(found.points, found.accepted, strict=True):
            expected = 0 if point.threshold is None else int((scores >= point.threshold).sum())
            assert accepted[number] == expected
    assert found.points[1].threshold is None
    assert "fewer than 3" in found.points[1].reason


@pytest.mark.parametrize("side", [7, 64])
def test_tiles_hold_every_pair_once(side: int) -> None:
    rows, labels = exact_faces(3, 90, 9)
    faces = sort_rows(rows, labels)
    impostor, genuine, marked = [], [], 0
    for tile in tiles(faces, side):
        impostor.append(tile.impostor[tile.impostor > -torch.inf].clone())
        genuine.append(tile.genuine)
        assert tile.none == int((tile.impostor == -torch.inf).sum())
        marked += tile.none
    scored = score_pairs(rows.numpy(), labels.numpy())
    assert marked
    assert np.array_equal(np.sort(torch.cat(impostor)), scored.impostor)
    assert np.array_equal(np.sort(torch.cat(genuine)), scored.genuine)
    assert (faces.genuine_pairs, faces.impostor_pairs) == (len(scored.genuine), len(scored.impostor))
    only = torch.cat([tile.genuine for tile in tiles(faces, side, genuine_only=True)])
    assert torch.equal(only, torch.cat(genuine))


def test_unit_vectors_come_to_the_same_within_rounding() -> None:
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(400) // 5
    rows = torch.randn(80, 64, generator=generator)[labels] + torch.randn(400, 64, generator=generator)
    rows = torch.nn.functional.normalize(rows)
    wide = rows.double().numpy()
    scored = score_pairs(wide, labels.numpy())
    found = all_pairs(rows, labels, [0.01, 0.001], whole=True, side=64)
    for point, slow in zip(
        found.points, operating_points([0.01, 0.001], genuine=scored.genuine, impostor=scored.impostor), strict=True
    ):
        assert point.threshold == pytest.approx(slow.threshold, abs=1e-6)
        assert point.tar == pytest.approx(slow.tar, abs=2 / len(scored.genuine))
    assert found.whole.auc == pytest.approx(auc(genuine=scored.genuine, impostor=scored.impostor), abs=1e-6)
    same = torch.nn.functional.normalize(torch.ones(4, 3))  # a cosine of 1 and a little more, all in the highest bin
    ends = all_pairs(torch.cat([same, -same]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), [0.5], whole=True).whole
    assert (ends.impostor[0], ends.impostor[-1], ends.impostor.sum()) == (16, 8, 24)


def test_the_order_of_the_rows_does_not_matter_and_they_stay_as_they_were() -> None:
    rows, labels = exact_faces(5, 200, 20)
    before, order = rows.clone(), torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert all_pairs(rows, labels, FMRS).points == all_pairs(rows[order], labels[order], FMRS).points
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    ("rows", "labels", "says"),
    [
        (torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), "only one kind"),
        (torch.ones(3, 2), torch.arange(3), "only one kind"),
        (torch.ones(3, 2), torch.arange(4), "a label a row"),
        (torch.ones(3), torch.arange(3), "a label a row"),
        (torch.tensor([[1.0], [torch.nan], [1.0]]), torch.tensor([0, 0, 1]), r"NaN or infinity in 1 rows \(1"),
        (torch.tensor([[1.0], [1.0], [torch.inf]]), torch.tensor([0, 0, 1]), r"NaN or infinity in 1 rows \(2"),
    ],
)
def test_what_cannot_be_judged(rows: Tensor, labels: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says):
        all_pairs(rows, labels, [0.1])


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_a_rate_outside_0_to_1(rate: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        all_pairs(*exact_faces(0, 20, 4), [rate])


SHARED = """
import sys
import torch
from arcinvert.evaluation.allpairs import pairs, streams

rank, store, held, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
data = torch.load(held, weights_only=True)
pairs.TAIL = 200
found = pairs.all_pairs(data["rows"], data["labels"], data["fmrs"], whole=True, side=64)
whole = found.whole
with open(f"{out}{rank}", "w") as file:
    file.write(repr((found.points, found.accepted.tolist(), whole.auc, whole.eer, whole.impostor.sum())))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = exact_faces(6, 300, 40)
    torch.save({"rows": rows, "labels": labels, "fmrs": FMRS}, tmp_path / "data.pt")
    (tmp_path / "shared.py").write_text(SHARED)
    given = [str(tmp_path / name) for name in ("store", "data.pt", "out")]
    running = [
        subprocess.Popen([sys.executable, str(tmp_path / "shared.py"), str(rank), *given], cwd=Path.cwd())
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    monkeypatch.setattr(pairs, "TAIL", 200)  # some thresholds by the tail, some by refinement
    found = all_pairs(rows, labels, FMRS, whole=True, side=64)
    whole = found.whole
    expected = repr((found.points, found.accepted.tolist(), whole.auc, whole.eer, whole.impostor.sum()))
    assert [(tmp_path / f"out{rank}").read_text() for rank in range(2)] == [expected] * 2
