"""Synthetic people of the face prior, as a store with photos and as a pair of photos."""

from pathlib import Path

from arcinvert.app.state import AppState
from arcinvert.app.targets import Target
from arcinvert.faces.photos import save_embeddings
from arcinvert.synthesis.sheets import write_png

STORE, PEOPLE = "example-store.npy", 12
PAIR = 2
"""The person of the example pair: an adult."""


def example_store(state: AppState, name: str) -> tuple[Path, Path]:
    """A store of synthetic people, two templates each by a recognizer, and the folder of their photos."""
    folder = state.folder / f"store-{state.names.index(name)}"
    path, photos = folder / STORE, folder / "photos"
    if not path.is_file():
        images = state.prior.portraits(range(PEOPLE), 2).flatten(0, 1)
        people = [f"person-{row // 2}" for row in range(len(images))]
        for number, (person, image) in enumerate(zip(people, images, strict=True)):
            (photos / person).mkdir(parents=True, exist_ok=True)
            write_png(photos / person / f"{number:02d}.png", image)
        path.with_name(f"{path.stem}.labels.txt").write_text("".join(f"{person}\n" for person in people))
        save_embeddings(path, state.recognizer(name).embed(images.permute(0, 3, 1, 2)).cpu().numpy())
    return path, photos


def example_pair(state: AppState, name: str) -> tuple[Target, Target]:
    """Two photos of one synthetic person, embedded by a recognizer."""
    images = state.prior.portraits([PAIR], 2)[0]
    embeddings = state.recognizer(name).embed(images.permute(0, 3, 1, 2)).cpu()
    first, second = (
        Target(embedding, image, "a synthetic person") for embedding, image in zip(embeddings, images, strict=True)
    )
    return first, second
