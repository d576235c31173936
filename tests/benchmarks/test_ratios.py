"""Guards of speed: ratios of processor times, measured side by side in one process, against those of the documents.

Times differ between machines and with what else runs; ratios do less. A bound leaves a quarter for what they do. Of all
pairs, whose bare product is measured by the clock, the best of three rounds counts.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from arcinvert.device import has_bfloat16
from arcinvert.evaluation.allpairs.pairs import all_pairs
from arcinvert.inverter import Inverter

ROOT = Path(__file__).parents[2]
NAMES = ("step", "stepping", "train", "pairs", "many")
TOLERANCE = 1.25
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
    for name in NAMES:
        sys.modules.pop(name, None)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def documented(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def test_a_step_costs_no_more_than_the_documents_say() -> None:
    options = argparse.Namespace(rounds=3, steps=5, seconds=0.0, preset="fast")
    row = script("step").measure(options, "default", Inverter.load(), 4, "float32")
    known = documented("step" if has_bfloat16(torch.device("cpu")) else "step-exact")
    assert row["ratio_attacked_cpu"] < TOLERANCE * known["ratio_attacked"]
    assert row["ratio_cpu"] < TOLERANCE * known["ratio"]


def test_a_step_of_the_trainer_costs_no_more_than_the_documents_say() -> None:
    options = argparse.Namespace(backbone="iresnet18", width=0.5, batch=16, identities=100, rounds=3, steps=1)
    found = script("train").measure_step(options)
    assert found["trainer_to_bare_cpu"] > documented("training")["step"]["trainer_to_bare_cpu"] / TOLERANCE


def test_all_pairs_run_at_half_the_rate_of_the_product_even_on_few_rows() -> None:
    pairs = script("pairs")
    embeddings, labels = pairs.synthetic(12_000, 512, 10, 1.7)
    shares = []
    for _ in range(3):
        seconds, _, _ = pairs.timed(lambda: all_pairs(embeddings, labels, [1e-5]))
        rate, _ = pairs.bare_rate(512, seconds=0.5)
        shares.append(512 * 12_000 * 11_999 / seconds / rate)
    assert max(shares) > 0.4  # few rows: a tenth of the tiles has genuine pairs


def test_the_last_images_of_a_job_cost_what_the_first_ones_do(tmp_path: Path) -> None:
    many = script("many")
    few, more = (many.around(Inverter.load(), count, tmp_path / str(count)) for count in (80, 640))
    assert more["last"] < 2 * few["first"]
    assert more["journal_bytes_a_target"] < 1.1 * few["journal_bytes_a_target"]
    assert more["again"] < TOLERANCE * 8 * few["again"]
