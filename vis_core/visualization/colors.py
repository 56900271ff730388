"""Colours that tell tracks apart."""

from __future__ import annotations

import math

import numpy as np

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_LIGHTNESS = (0.78, 0.70, 0.55, 0.62, 0.85)
_CHROMA = 0.17


def track_color(track_id: int) -> tuple[int, int, int]:
    """RGB colour in [0, 255] of a track; depends on the id alone.

    Hues advance by the golden angle, which spreads any run of ids evenly around the colour circle. They nearly return
    after 8, 13 and 21 ids (Fibonacci numbers); lightness cycles through five levels and tells those apart. Both are
    taken in OKLCh, where equal steps look equally far apart.
    """
    hue = 2 * math.pi * ((0.08 + track_id * _GOLDEN_RATIO) % 1.0)
    lightness, chroma = _LIGHTNESS[track_id % len(_LIGHTNESS)], _CHROMA
    linear = _oklch_to_linear(lightness, chroma, hue)
    while not ((linear >= 0) & (linear <= 1)).all():  # move inwards until a screen can show it
        chroma *= 0.97
        linear = _oklch_to_linear(lightness, chroma, hue)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(int(v) for v in np.round(255 * gamma))


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white (softened), whichever reads better on ``background``."""
    linear = (np.asarray(background) / 255) ** 2.2
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    # Contrast ratios of WCAG 2: (brighter + 0.05) / (darker + 0.05).
    return (16, 16, 16) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (250, 250, 250)


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> np.ndarray:
    """Linear sRGB (3,), possibly outside [0, 1]. B. Ottosson, "A perceptual color space for image processing", 2020."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return np.array(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    )
