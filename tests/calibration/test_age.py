from pathlib import Path

import pytest
import torch
from torch import Tensor

from arcinvert.calibration.age import default_age, load_age
from arcinvert.calibration.auxiliary import SIZE, default_auxiliary
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.prior import default_face_prior

SHIPPED = Path(__file__).parents[2] / "arcinvert" / "data" / "age.safetensors"
INFANTS, OLD = (3449, 1108, 2526, 2719, 1422, 5635), (4733, 132, 129, 6963, 840, 2237)
"""Faces of the face prior that are plainly that to a person who looks at them."""


def embeddings(rows: tuple[int, ...]) -> Tensor:
    return default_auxiliary().embed(default_face_prior().pictures(rows).permute(0, 3, 1, 2))


def test_infants_and_old_people_are_told_apart() -> None:
    age = default_age()
    assert age is default_age("cpu")
    infants, old = age.years(embeddings(INFANTS)), age.years(embeddings(OLD))
    assert float(infants.max()) < 25
    assert float(old.min()) > 40
    assert float(infants.mean()) < 12
    assert float(old.mean()) > 52


def test_an_embedding_at_another_age_is_near_and_says_so() -> None:
    age, rows = default_age(), embeddings(OLD)
    wanted = age.years(rows) - 15
    wanted[0] = torch.nan
    found = age.at(rows, wanted)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(rows)))
    torch.testing.assert_close(found[0], rows[0])
    torch.testing.assert_close(age.years(found)[1:], wanted[1:], atol=3, rtol=0)  # the unit norm costs a little
    assert float((found * rows).sum(1).min()) > 0.9


@pytest.mark.parametrize("name", ["weight", "bias", "year"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    stored, path = load_checkpoint(SHIPPED), tmp_path / "age.safetensors"
    tensors = {part: stored.tensors[part] for part in ("weight", "bias", "year")}
    assert tensors["weight"].shape == (SIZE,)
    for broken, says in (
        ({}, "do not fit"),
        ({name: tensors[name][None].repeat(2, *[1] * tensors[name].ndim)}, "do not fit"),
        ({name: tensors[name] * torch.nan}, "not finite"),
    ):
        rest = {part: value for part, value in tensors.items() if part != name}
        save_checkpoint(path, stored.header, rest | broken)
        with pytest.raises(CheckpointError, match=says):
            load_age(path)
    with pytest.raises(CheckpointError, match="not a regression of age"):
        load_age(SHIPPED.with_name("auxiliary.safetensors"))
