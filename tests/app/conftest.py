"""The page of a tiny untrained network, and a visitor who sees its example."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from visits import opened

from arcinvert.app.state import AppState
from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inverter import Inverter


@pytest.fixture(scope="module")
def state(
    tiny_checkpoint: Path,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AppState]:
    made = AppState(tiny_checkpoint, prior=small_prior, roots=[tmp_path_factory.getbasetemp()])
    made._inverters["tiny"] = Inverter(made.recognizer("tiny"), made.prior, tiny_calibration)
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(state: AppState) -> Iterator[str]:
    from arcinvert.app.page import launch

    page, address = launch(state)
    yield address
    page.close(verbose=False)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened(context, address)
    context.close()
