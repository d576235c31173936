"""Images, curve and scale."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.app.drawing import PARTS, Curve, Scale, data_uri, figure
from arcinvert.audit.thresholds import Threshold

KNOWN_MODELS = (Threshold(1e-2, 0.3, 100_000), Threshold(1e-3, 0.4, 100_000))
FEW = Threshold(1e-3, None, 20, "20 impostor pairs allow 0 false matches")


def test_an_image_survives() -> None:
    image = torch.randint(0, 256, (112, 112, 3), dtype=torch.uint8)
    held = base64.b64decode(data_uri(image).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.array(Image.open(io.BytesIO(held))), image.numpy())


def test_nothing_is_injected() -> None:
    html = figure(None, "<script>x</script>", '"><img onerror=1>', note=["<b>", "<i>"])
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>" not in html
    assert "<i>" not in html


def test_the_curve_ends_where_the_cosine_is() -> None:
    drawn = ElementTree.fromstring(PARTS.curve(Curve([(0, 0.0), (30, 1.0)], 60, KNOWN_MODELS)))
    line = next(e for e in drawn.iter("polyline")).get("points") or ""
    first, last = (tuple(map(float, point.split(","))) for point in line.split())
    levels = {e.text: float(e.get("y") or 0) - 5 for e in drawn.iter("text") if e.text in ("0", "1")}
    assert first[1] == pytest.approx(levels["0"], abs=0.1)
    assert last[1] == pytest.approx(levels["1"], abs=0.1)
    assert last[0] == pytest.approx((44 + 640 - 12) / 2, abs=0.1)  # step 30 of 60 is the middle
    marks = [float(e.get("y1") or 0) for e in drawn.iter("line") if e.get("class") == "ai-mark"]
    assert marks[1] < marks[0] < Curve.height  # the stricter one lies higher
    assert "1.00 after 30 of 60" in (drawn.get("aria-label") or "")


@pytest.mark.parametrize("cosine", [-1.0, 0.35, 1.0])
def test_the_scale_stays_in_its_frame(cosine: float) -> None:
    drawn = ElementTree.fromstring(PARTS.scale(Scale(cosine, (*KNOWN_MODELS[:1], FEW))))
    dot = float(next(e for e in drawn.iter("circle")).get("cx") or 0)
    assert 10 <= dot <= 630
    marks = [float(e.get("x1") or 0) for e in drawn.iter("line") if e.get("class") == "ai-mark"]
    assert len(marks) == 1  # a threshold without a value has no mark
    assert (dot > marks[0]) == (cosine > 0.3)


def test_a_verdict_in_words() -> None:
    assert "<strong>accepted" in PARTS.verdict(0.3, KNOWN_MODELS[0])
    assert "<strong>not accepted" in PARTS.verdict(0.299, KNOWN_MODELS[0])
    assert re.search("20 impostor pairs", PARTS.verdict(0.9, FEW))
