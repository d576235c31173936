"""The sweep and its picture."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.defenses.curve import trade_off
from arcinvert.audit.defenses.sweep import Left, TradeOff, specs_for, sweep
from arcinvert.audit.defenses.unlinkability import linkability
from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.intervals import wilson_interval

DRAW = torch.Generator().manual_seed(0)
OWN = normalize(torch.randn(300, 32, generator=DRAW))
LABELS = torch.arange(40).repeat_interleave(3)
FACES = normalize(normalize(torch.randn(40, 32, generator=DRAW))[LABELS] + 0.1 * torch.randn(120, 32, generator=DRAW))


def attack(defense: Defense, known: bool) -> Sequence[Left]:
    """Accepted where the guess is near: no pictures are made."""
    believed = defense if known else defense.without_key(0)
    guess = believed.estimate(defense.protect(FACES[:20], range(20)), OWN)
    accepted = int(((guess * FACES[:20]).sum(1) > 0.8).sum())
    return [Left("judge", fmr, accepted, 20) for fmr in (0.01, 0.001)]


def swept(specs: Sequence[str]) -> list[TradeOff]:
    return sweep(specs, FACES, LABELS, OWN, attack)


def test_rows_are_defenses_with_and_without_their_key() -> None:
    said: list[str] = []
    rows = sweep(["none", "rotate:k", "noise:0.3"], FACES, LABELS, OWN, attack, said.append)
    assert [(row.spec, row.key_known) for row in rows] == [
        ("none", True),
        ("rotate:k", True),
        ("rotate:k", False),
        ("noise:0.3", True),
    ]
    assert said == ["none", "rotate:k", "rotate:k, key not known", "noise:0.3"]
    assert [row.left[0].accepted for row in rows] == [20, 20, 0, rows[3].left[0].accepted]
    assert rows[3].left[0].accepted < 20
    assert rows[3].kept.eer > rows[0].kept.eer
    assert rows[0].linked.d_sys > 0.9 > 0.3 > rows[1].linked.d_sys


def test_a_row_says_what_it_rests_on() -> None:
    (row,) = swept(["none"])
    written = row.to_json()
    assert written["spec"] == "none"
    low, high = wilson_interval(20, 20)
    assert written["sar"][1] == {
        "judge": "judge",
        "what": "type I",
        "fmr": 0.001,
        "accepted": 20,
        "tried": 20,
        "sar": 1.0,
        "low": round(low, 6),
        "high": round(high, 6),
    }
    assert written["d_sys"] == linkability(parse_defense("none"), FACES, LABELS).to_json()
    assert {"eer", "tar", "genuine_pairs", "impostor_pairs", "key_known"} < written.keys()


def test_all_defenses_are_looked_at_before_one_is_attacked() -> None:
    def never(defense: Defense, known: bool) -> Sequence[Left]:
        raise AssertionError

    with pytest.raises(UsageError, match="truncate:99"):
        sweep(["none", "truncate:99"], FACES, LABELS, OWN, never)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_named_defenses_fit(size: int) -> None:
    own = normalize(torch.randn(40, size, generator=DRAW))
    specs = specs_for(size)
    assert len({spec.partition(":")[0] for spec in specs}) == 10
    for spec in specs:
        parse_defense(spec).fitted(own)
    assert ("truncate:256" in specs) == (size == 512)


def test_the_picture_shows_each_scheme_but_no_key(tmp_path: Path) -> None:
    rows = swept(["none", "noise:0.05", "noise:0.3", "rotate:secretword"])
    trade_off(tmp_path / "a.png", rows, judge="judge", fmr=0.01)
    trade_off(tmp_path / "b.png", rows, judge="judge", fmr=0.01)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    trade_off(tmp_path / "a.svg", rows, judge="judge", fmr=0.01)
    assert "secretword" not in (tmp_path / "a.svg").read_text()


def test_without_figures_there_is_no_picture(tmp_path: Path) -> None:
    rows = swept(["none"])
    with pytest.raises(InputError, match="no defense has both"):
        trade_off(tmp_path / "a.png", rows, judge="another", fmr=0.01)
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        trade_off(tmp_path / "a.pdf", rows, judge="judge", fmr=0.01)
    assert not list(tmp_path.iterdir())
