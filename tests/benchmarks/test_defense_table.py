"""The judge of the defense table."""

from types import ModuleType

import torch
from torch.nn.functional import normalize

from arcinvert.recognizer import Recognizer


def test_a_judge_counts_both_types_at_each_threshold(script: ModuleType, tiny_recognizer: Recognizer) -> None:
    images = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = tiny_recognizer.embed(images)
    others = [rows[:1], normalize(-rows[1:].expand(3, -1))]  # one other image alike; three that are the opposite
    judge = script.Judge("tiny", tiny_recognizer, {0.01: 0.99, 0.001: 1.01}, rows, others)
    found = [(rate.kind, rate.fmr, rate.accepted, rate.tried) for rate in judge.rates(images)]
    assert found == [("type I", 0.01, 2, 2), ("type I", 0.001, 0, 2), ("type II", 0.01, 1, 4), ("type II", 0.001, 0, 4)]
