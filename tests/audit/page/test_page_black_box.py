"""The page of an audit without the network that made the templates."""

from page_report import example

from arcinvert.audit.page import page
from arcinvert.audit.report import BlackBoxSummary
from arcinvert.mapping.quality import MapQuality, Verification


def test_a_black_box_is_said_before_the_rates() -> None:
    one = Verification("mapped against native", 0.1028, (0.01, 0.001), (0.48, None), 1760, 3_094_080)
    quality = MapQuality(1760, 880, 3.16, 0.622, 0.411, 1002, 1760, 0.546, 0.592, (one,))
    shown = page(example(black_box=BlackBoxSummary(quality, 7, "ab" * 32, False)))
    assert shown.index("never opened") < shown.index("Do the reconstructions pass?")
    for text in ("0.622", "1,002 of 1,760", "--scores", "recognizer behind the pairs", "48%, unknown"):
        assert text in shown
    assert "never opened" not in page(example())
