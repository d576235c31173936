"""People for the examples, and a store of their embeddings as a face-recognition system keeps one."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from arcinvert import Inverter, Recognizer, write_png


def people(data: Path | None, folder: Path, count: int, pictures: int = 10) -> Path:
    """A folder ``<identity>/<picture>``: ``data``, or ``folder`` with pictures of ``count`` synthetic people.

    The shipped networks were trained on these people, so figures measured on them flatter.
    """
    if data is not None:
        return data
    prior = Inverter.load().prior
    for label in range(len(prior) - count, len(prior)):
        (folder / f"{label:05d}").mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(prior.portraits([label], pictures, seed=label)[0]):
            write_png(folder / f"{label:05d}" / f"{number:02d}.png", image)
    return folder


def enroll(photos: Path, recognizer: Recognizer, count: int, store: Path) -> Path:
    """A parquet file with the embeddings of two pictures of each of the last ``count`` people of a folder."""
    import pyarrow.parquet  # an extra: pip install 'arcinvert[stores]'

    folders = sorted(path for path in photos.iterdir() if path.is_dir())[-count:]
    files = [file for folder in folders for file in sorted(folder.iterdir())[:2]]
    crops = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
    columns = {"id": np.arange(len(files)), "person": [file.parent.name for file in files]}
    columns |= {"embedding": list(recognizer.embed(crops).cpu().numpy()), "model": [recognizer.digest] * len(files)}
    store.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), store)
    return store
