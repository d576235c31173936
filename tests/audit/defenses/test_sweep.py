"""The sweep and its plot."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.audit.config import AuditConfig
from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.defenses.curve import trade_off
from arcinvert.audit.defenses.sweep import DefenseResult, Outcome, fit_defenses, specs_for, sweep
from arcinvert.audit.rates import Rate
from arcinvert.errors import InputError, UsageError

DRAW = torch.Generator().manual_seed(0)
OWN = normalize(torch.randn(300, 32, generator=DRAW))
LABELS = torch.arange(40).repeat_interleave(3)
FACES = normalize(normalize(torch.randn(40, 32, generator=DRAW))[LABELS] + 0.1 * torch.randn(120, 32, generator=DRAW))


def attack(defense: Defense, known: bool) -> Outcome:
    """Accepts where the guess is near: no images are made."""
    believed = defense if known else defense.without_key(0)
    guess = believed.estimate(defense.protect(FACES[:20], range(20)), OWN)
    accepted = int(((guess * FACES[:20]).sum(1) > 0.8).sum())
    return Outcome([Rate.measured("judge", "type I", fmr, accepted, 20) for fmr in (0.01, 0.001)])


def swept(specs: Sequence[str]) -> list[DefenseResult]:
    return sweep(fit_defenses(specs, OWN), FACES, LABELS, attack)


def test_rows_are_defenses_with_and_without_their_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arcinvert")
    rows = swept(["none", "rotate:k", "noise:0.3"])
    found = [(row.spec, row.key_known) for row in rows]
    assert found == [("none", True), ("rotate:KEY", True), ("rotate:KEY", False), ("noise:0.3", True)]
    assert [message.removeprefix("attacking ") for message in caplog.messages] == [
        spec + ("" if known else ", key not known") for spec, known in found
    ]
    assert [row.rates[0].accepted for row in rows[:3]] == [20, 20, 0]
    assert (rows[3].rates[0].accepted or 0) < 20
    assert rows[3].accuracy.eer > rows[0].accuracy.eer
    assert rows[0].linkability.d_sys > 0.9 > 0.3 > rows[1].linkability.d_sys


def test_a_defense_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="truncate:99"):
        fit_defenses(["none", "truncate:99"], OWN)


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


def test_results_and_messages_show_no_key_but_tell_keys_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "arcinvert")
    rows = swept(["rotate:secretword", "rotate:otherword"])
    assert list(dict.fromkeys(row.spec for row in rows)) == ["rotate:KEY", "rotate:KEY2"]
    assert "rotate:KEY2, key not known" in caplog.text
    one, two = parse_defense("rotate:secretword"), parse_defense("rotate:otherword")
    assert one.fingerprint != two.fingerprint
    for text in (caplog.text, repr(rows), repr(one), one.fingerprint, one.label):
        assert "secretword" not in text
    config = AuditConfig(defenses=("rotate:secretword", "int8", "rotate:otherword"))
    assert config.without_keys().defenses == ("rotate:KEY", "int8", "rotate:KEY2")
    assert config.fingerprint() != AuditConfig(defenses=("rotate:secretword", "int8", "rotate:1")).fingerprint()
    with pytest.raises(UsageError) as caught:
        parse_defense("rotation:secretword")
    assert "secretword" not in str(caught.value)


def test_without_figures_there_is_no_picture(tmp_path: Path) -> None:
    rows = swept(["none"])
    with pytest.raises(InputError, match="no defense has both"):
        trade_off(tmp_path / "a.png", rows, judge="another", fmr=0.01)
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        trade_off(tmp_path / "a.pdf", rows, judge="judge", fmr=0.01)
    assert not list(tmp_path.iterdir())
