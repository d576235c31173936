"""Pictures of the people behind the face prior, with a margin so that any detector finds the face."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, PngImagePlugin

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import SIZE, FacePrior
from arcinvert.progress import Progress, silent

SIDE = 2 * SIZE
"""Width and height of a picture; the aligned crop is in its middle, unchanged."""
BLUR = 6
"""Of the margin, which continues the edges of the crop, in pixels."""
SYNTHETIC = "synthetic face of a person who does not exist, drawn by arcinvert; not a photograph"


def write_faces(
    prior: FacePrior, out: Path, *, each: int = 2, people: int | None = None, progress: Progress = silent
) -> int:
    """Write ``out/<identity>/<number>.png``, 224x224 RGB; people who do not exist.

    Args:
        prior: the synthetic faces.
        out: the folder; files of the same names are replaced.
        each: pictures of a person; see :meth:`~arcinvert.faceprior.prior.FacePrior.portraits`.
        people: only the first so many; default: all.
        progress: called with (done, all, text).

    Returns:
        The number of pictures.

    Raises:
        UsageError: not one picture is asked for.
        EnvironmentProblem: the folder cannot be written.
    """
    if each < 1 or (people is not None and people < 1):
        raise UsageError(f"expected at least one picture of one person, got {each} of {people}")
    count = len(prior) if people is None else min(people, len(prior))
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", SYNTHETIC)
    for person in range(count):
        for number, crop in enumerate(prior.portraits([person], each, seed=person)[0]):
            with atomic_write(out / f"{person:05d}" / f"{number:02d}.png") as temporary:
                picture = with_margin(Image.fromarray(crop.numpy()))
                picture.save(temporary, format="PNG", pnginfo=info)
        progress((person + 1) * each, count * each, "drawing faces")
    return count * each


def with_margin(crop: Image.Image) -> Image.Image:
    """An aligned crop, 112x112, in the middle of a picture of twice its size."""
    start = (SIDE - SIZE) // 2
    continued = np.pad(np.asarray(crop), ((start, start), (start, start), (0, 0)), mode="edge")
    picture = Image.fromarray(continued).filter(ImageFilter.GaussianBlur(BLUR))
    picture.paste(crop, (start, start))
    return picture
