"""Two photos, each reconstructed, and the faces compared with the other photo."""

import shutil
import threading
from pathlib import Path

import pytest
import torch

from arcinvert.app.both_ways import FIRST, PHOTOS, SECOND, Answer, BothWays, both_ways
from arcinvert.app.drawing import PARTS
from arcinvert.app.examples import example_pair
from arcinvert.app.state import AppState
from arcinvert.app.targets import Target
from arcinvert.app.task import Canceled, Task
from arcinvert.audit.judges import Judge
from arcinvert.audit.thresholds import Threshold
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import reduced
from arcinvert.inverter import Inverter

SOON = 60.0
LOOSE, STRICT = Threshold(1e-2, 0.3, 100_000), Threshold(1e-3, 0.6, 100_000)


@pytest.fixture
def state(tiny_checkpoint: Path, small_prior: FacePrior, tiny_calibration: Calibration, tmp_path: Path) -> AppState:
    judge = tmp_path / "judge.safetensors"
    shutil.copy(tiny_checkpoint, judge)
    made = AppState(tiny_checkpoint, [judge], prior=small_prior)
    made._inverters["tiny"] = Inverter(made.recognizer("tiny"), made.prior, tiny_calibration)
    for name in ("tiny", "judge"):
        made._judges[name] = Judge(name, made.recognizer(name), False, (LOOSE, STRICT), torch.empty(0, 16), "")
    yield made
    made.close()


def started(state: AppState, photos: tuple[Target, Target], judges: list[str]) -> Task[BothWays]:
    return Task(threading.Lock(), lambda task: both_ways(state, "tiny", judges, photos, 2, task))


def test_each_face_is_that_of_its_photo_and_meets_the_other_photo(state: AppState) -> None:
    photos = example_pair(state, "tiny")
    found = started(state, photos, ["judge", "tiny"]).result.result(SOON)
    alone = state.inverter("tiny").reconstruct(photos[0].embedding[None], steps=2)[0].reconstructions[0].pixels
    assert found.pictures.shape == (2, 224, 224, 3)
    assert torch.equal(reduced(found.pictures), found.faces)
    distances = (found.faces.float() - alone.float()).abs().mean((1, 2, 3))
    assert distances[0] < 1 < distances[1]  # of 255; another batch has other rounding
    assert [(answer.name, answer.attacked) for answer in found.answers] == [("tiny", True), ("judge", False)]
    for answer in found.answers:
        rows = [
            state.recognizer(answer.name).embed(image.permute(2, 0, 1)[None])[0]
            for image in (photos[0].crop, photos[1].crop, *found.faces)
        ]
        pairs = {PHOTOS: rows[0] @ rows[1], FIRST: rows[2] @ rows[1], SECOND: rows[3] @ rows[0]}
        assert answer.cosines == pytest.approx({pair: float(cosine) for pair, cosine in pairs.items()}, abs=1e-4)
        assert answer.thresholds == (LOOSE, STRICT)


def test_a_pair_is_accepted_from_the_strictest_threshold_that_it_passes() -> None:
    answer = Answer("judge", False, {PHOTOS: 0.7, FIRST: 0.3, SECOND: 0.29}, (LOOSE, STRICT))
    assert answer.accepted == {PHOTOS: STRICT, FIRST: LOOSE, SECOND: None}
    shown = PARTS.both_ways([answer])
    assert shown.count("✔") == 2
    assert "where 1 in 1,000 strangers are" in shown
    assert "no threshold is known" not in shown
    assert PARTS.both_ways([Answer("new", False, {PHOTOS: 0.7}, ())]).count("no threshold is known") == 1


def test_numbers_without_a_photo_are_refused(state: AppState) -> None:
    photo, _ = example_pair(state, "tiny")
    with pytest.raises(InputError, match="expected two photos"):
        started(state, (photo, Target(torch.ones(16) / 4, None, "a row")), []).result.result(SOON)


def test_a_visitor_who_stops_gets_no_answers(state: AppState) -> None:
    held = threading.Lock()
    with held:
        task = Task(held, lambda task: both_ways(state, "tiny", [], example_pair(state, "tiny"), 100, task))
        task.cancel()
    with pytest.raises(Canceled):
        task.result.result(SOON)
