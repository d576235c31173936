"""What the files on whole runs share."""

import pytest
from torch import Tensor

from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer


@pytest.fixture(scope="session")
def targets(tiny_recognizer: Recognizer, small_prior: FacePrior) -> Tensor:
    """The embeddings of three faces."""
    return tiny_recognizer.embed(small_prior.decode(small_prior.coefficients(slice(30, 33))).clamp(0, 1))


@pytest.fixture(scope="session")
def known(small_prior: FacePrior, tiny_calibration: Calibration) -> tuple[FacePrior, Calibration]:
    """What an attacker knows, as the functions take it."""
    return small_prior, tiny_calibration
