"""Colors: marks of one shape differ for color-blind readers; the style refers to nothing outside of the page."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from arcinvert.audit.page.scatter import COLORS, SHAPES

STYLE = files("arcinvert.audit.page").joinpath("report.css").read_text(encoding="utf-8")
# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISION = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def lab(color: str, vision: str) -> np.ndarray:
    """CIE L*a*b* of ``#rrggbb`` with a kind of color vision."""
    parts = np.array([int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    tristimulus = XYZ @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / WHITE
    f = np.where(tristimulus > 0.008856, np.cbrt(tristimulus), 7.787 * tristimulus + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_series_of_one_shape_differ(vision: str) -> None:
    schemes = re.findall(r":root \{[^}]*\}", STYLE)
    assert len(schemes) == 2  # light, dark
    for scheme in schemes:
        colors = [lab(color, vision) for color in re.findall(r"--s\d: (#[0-9a-f]{6})", scheme)]
        assert len(colors) == COLORS
        for a, b in combinations(range(12), 2):
            if a % len(SHAPES) == b % len(SHAPES):
                assert np.linalg.norm(colors[a % COLORS] - colors[b % COLORS]) > 15, (scheme[:40], a, b)


def test_the_style_is_complete_and_refers_to_nothing_outside() -> None:
    assert STYLE.count("{") == STYLE.count("}")
    assert not re.search(r"url\(|@import|@font-face|https?:|</", STYLE)
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    assert used <= set(re.findall(r"--([\w-]+):", STYLE))
