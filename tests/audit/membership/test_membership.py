"""Membership: signals against loops, figures where the answer is known, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.audit.membership import Signals, measure, signals_of_folder
from arcinvert.audit.membership.measure import COMBINED
from arcinvert.audit.membership.signals import CENTER, DISTANCE, MARGIN, NORM, _some_people, layer_distance
from arcinvert.cli import run
from arcinvert.errors import InputError
from arcinvert.recognizer import ChannelStatistics, Recognizer

pytestmark = pytest.mark.usefixtures("as_found")


def made(people: int, shift: float, seed: int, digest: str) -> Signals:
    """Four pictures a person; the signal ``s`` is shifted by ``shift`` deviations."""
    generator = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), 4)
    person, picture = generator.normal(size=people)[who], generator.normal(size=len(who))
    values = shift * 2**0.5 + person + picture
    features = np.stack([values, generator.normal(size=len(who)), np.ones(len(who))], 1)
    return Signals({"s": values}, features, who, digest, 0)


def test_the_distance_of_a_layer_by_hand() -> None:
    activation = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]], [[5.0, 5.0]]]])  # means 2, 0, 5; variances 1, 0, 0
    stored = ChannelStatistics(
        torch.tensor([1.0, 2.0, 0.0]), torch.tensor([4.0, 1.0, -1.0]), torch.tensor([True, True, False])
    )
    expected = ((2 - 1) ** 2 / 4 + (0.5 - 1) ** 2 + (0 - 2) ** 2 / 1 + (0 - 1) ** 2) / 2
    assert float(layer_distance(activation, stored)[0]) == pytest.approx(expected)


def test_signals_of_a_folder(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    found = signals_of_folder(tiny_recognizer, tiny_faces, centers=torch.eye(16)[:3])
    assert list(found.named) == [DISTANCE, NORM, CENTER, MARGIN]
    assert np.array_equal(found.people, np.repeat(np.arange(6), 6))
    crop = np.array(Image.open(tiny_faces / "id1" / "2.png"))  # row 8
    image = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        raw = tiny_recognizer.network(image * 2 - 1)[0]
    near = sorted((raw[n] / raw.norm()).item() for n in range(3))
    assert found.named[NORM][8] == pytest.approx(float(raw.norm().log()), abs=1e-4)
    assert found.named[CENTER][8] == pytest.approx(near[2], abs=1e-4)
    assert found.named[MARGIN][8] == pytest.approx(near[2] - near[1], abs=1e-4)


def test_a_part_of_a_folder_is_whole_people() -> None:
    kept = _some_people(np.repeat(np.arange(50), 3), 31)
    assert len(kept) == 30
    assert (np.bincount(np.repeat(np.arange(50), 3)[kept], minlength=50) % 3 == 0).all()


def test_known_answers() -> None:
    # One deviation between two normals: the area is Phi(1 / sqrt 2) = 0.760, and 9.2 % pass the 1 % of the others.
    found = measure(made(300, 1, 0, "a"), made(300, 1 - 1, 1, "b"), draws=60)
    one, combined, *people = found.results
    assert (one.name, combined.name, one.unit, one.members) == ("s", COMBINED, "pictures", 1200)
    assert one.auc == pytest.approx(0.760, abs=0.04)
    assert one.auc_low < one.auc < one.auc_high
    assert combined.auc == pytest.approx(one.auc, abs=0.02)
    assert one.tpr == pytest.approx(0.092, abs=0.05)
    assert one.tpr_low is not None
    assert one.tpr_low <= 0.092 <= (one.tpr_high or 0)
    assert people[0].auc > one.auc  # the mean over a person's pictures has less noise
    assert people[0].tpr is not None  # of 300 people, three may pass


def test_pictures_of_one_person_are_not_independent() -> None:
    """Where nothing is to find, the interval over people has 0.5 in about 95 % of cases."""
    covered = 0
    for seed in range(60):
        found = measure(made(40, 0, 2 * seed, "a"), made(40, 0, 2 * seed + 1, "b"), draws=60)
        covered += found.results[0].auc_low <= 0.5 <= found.results[0].auc_high
    assert covered >= 52


def test_too_few_or_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="4 and 40"):
        measure(made(4, 0, 0, "a"), made(40, 0, 1, "b"))
    with pytest.raises(InputError, match="the same ones"):
        measure(made(40, 0, 0, "a"), made(40, 0, 0, "a"))
    few = measure(made(40, 0, 0, "a"), made(40, 0, 1, "b"), draws=5)
    assert few.results[0].tpr is None  # 160 nonmembers: one false positive fixes no threshold


def test_the_command(
    tiny_checkpoint: Path, tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for person in range(5):
        (tmp_path / f"p{person}").mkdir()
        for number in range(2):
            pixels = np.random.default_rng([person, number]).integers(0, 255, (112, 112, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"p{person}" / f"{number}.png")
    words = ["-q", "audit", "membership", "--pictures", str(tiny_faces), "--checkpoint", str(tiny_checkpoint)]
    assert run([*words, "--nonmembers", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["people"] == [6, 5]
    assert set(found["run"]) == {"date", "version", "command", "license"}
    by_name = {row["name"]: row["auc"] for row in found["results"] if row["unit"] == "pictures"}
    assert by_name[DISTANCE] == 1.0  # noise is far from what the network has seen
    assert run([*words, "--nonmembers", str(tmp_path)]) == 0
    assert "limitation: The two folders must differ in membership alone." in capsys.readouterr().out
    assert run(words) == 0
    assert "identity 5, 6 pictures: BatchNorm distance " in capsys.readouterr().out
