"""Batches that become smaller when memory runs out."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from arcinvert.inversion.memory import FACTOR, SHARE, available_memory, images_at_once, in_parts, out_of_memory
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("9"), False),
    ],
    ids=str,
)
def test_what_counts_as_out_of_memory(error: Exception, is_one: bool) -> None:
    assert out_of_memory(error) is is_one


def test_the_words_of_this_torch() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)


Call = tuple[int, int, int]


def run(batches: Sequence[Sequence[int]], largest: int) -> tuple[list[int], list[Call]]:
    """What ``in_parts`` yields with room for ``largest`` items, and its calls: batch, items done, items."""
    calls: list[Call] = []

    def work(number: int, done: int, part: Sequence[int]) -> list[int]:
        calls.append((number, done, len(part)))
        if len(part) > largest:
            raise MemoryError
        return [10 * item for item in part]

    return [item for part in in_parts(batches, work) for item in part], calls


def test_whole_batches_where_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    found, calls = run([[1, 2, 3], [4, 5, 6], [7]], 3)
    assert found == [10, 20, 30, 40, 50, 60, 70]
    assert calls == [(0, 0, 3), (1, 0, 3), (2, 0, 1)]
    assert caplog.messages == []


def test_a_batch_is_halved_with_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    found, calls = run([[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12]], 4)
    assert found == [10 * i for i in range(13)]
    assert calls == [(0, 0, 8), (0, 0, 4), (0, 4, 4), (1, 0, 4), (1, 4, 1)]
    assert caplog.messages == ["out of memory with 8 images at once, continuing with 4"]


def test_halves_down_to_one(caplog: pytest.LogCaptureFixture) -> None:
    found, calls = run([[0, 1, 2, 3, 4]], 1)
    assert found == [0, 10, 20, 30, 40]
    assert [size for *_, size in calls] == [5, 2, 1, 1, 1, 1, 1]
    assert len(caplog.messages) == 2


def test_a_single_item_without_room_is_an_error() -> None:
    with pytest.raises(MemoryError, match="single"):
        run([[0, 1, 2]], 0)


def test_another_error_passes() -> None:
    def broken(number: int, done: int, part: Sequence[int]) -> list[int]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(in_parts([[0, 1]], broken))


# --- the memory at hand


def test_no_more_items_at_once_than_asked_for() -> None:
    calls: list[int] = []

    def work(number: int, done: int, part: Sequence[int]) -> list[int]:
        calls.append(len(part))
        return list(part)

    assert [item for part in in_parts([[1, 2, 3], [4, 5]], work, most=2) for item in part] == [1, 2, 3, 4, 5]
    assert calls == [2, 1, 2]


@pytest.mark.parametrize(("images", "expected"), [(100.0, 8), (3.4, 3), (0.2, 1)])
def test_a_batch_is_chosen_by_the_memory_at_hand(
    images: float,
    expected: int,
    tiny_recognizer: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    each = FACTOR * tiny_recognizer.kept_bytes / SHARE
    monkeypatch.setattr("arcinvert.inversion.memory.available_memory", lambda device: int(images * each))
    assert images_at_once(tiny_recognizer, 8) == expected
    assert [f"{expected} images at once instead of 8" in text for text in caplog.messages] == [True] * (expected < 8)
    monkeypatch.setattr("arcinvert.inversion.memory.available_memory", lambda device: None)
    assert images_at_once(tiny_recognizer, 8) == 8


def test_what_draws_an_image_takes_its_share_of_the_memory(
    tiny_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = FACTOR * tiny_recognizer.kept_bytes
    monkeypatch.setattr("arcinvert.inversion.memory.available_memory", lambda device: int(6.2 * each / SHARE))
    assert images_at_once(tiny_recognizer, 8) == 6
    assert images_at_once(tiny_recognizer, 8, int(each)) == 3


def test_the_available_memory_is_measured() -> None:
    found = available_memory(torch.device("cpu"))
    assert found is None or 0 < found < 2**60


def test_what_a_network_keeps_of_an_image_is_what_its_layers_save() -> None:
    # The scaling of the image and PReLU keep their inputs; the frozen convolution keeps only its weight.
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = Recognizer(network, Preprocessing(), embedding_size=4).kept_bytes
    assert found == pytest.approx(4 * (3 + 4) * 112 * 112, rel=0.01)
