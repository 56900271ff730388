"""A table of colours that are easy to tell apart."""

import colorsys
import random

import numpy as np

__all__ = ["colormap", "random_color", "random_colors"]

NUM_COLORS = 74


def _make_table() -> np.ndarray:
    """(NUM_COLORS, 3) RGB in [0, 1]. Hues in steps of the golden ratio spread evenly however many are used."""
    golden_ratio = (5**0.5 - 1) / 2
    rows = []
    for i in range(NUM_COLORS):
        saturation = (0.95, 0.6, 0.8)[i % 3]
        value = (1.0, 0.72)[i // 3 % 2]
        rows.append(colorsys.hsv_to_rgb(i * golden_ratio % 1.0, saturation, value))
    return np.array(rows)


_TABLE = _make_table()


def colormap(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """The whole table.

    Args:
        rgb: channel order RGB instead of BGR.
        maximum: largest value, 1 or 255.

    Returns:
        (74, 3) floating array in [0, maximum].
    """
    assert maximum in (1, 255), f"maximum must be 1 or 255, got {maximum}"
    table = _TABLE * maximum
    return table if rgb else table[:, ::-1]


def random_color(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """One colour of the table, (3,), drawn by numpy's global generator."""
    return colormap(rgb, maximum)[np.random.randint(NUM_COLORS)]


def random_colors(N: int, rgb: bool = False, maximum: float = 255) -> list[np.ndarray]:
    """``N`` different colours of the table; more than it has is a ValueError."""
    table = colormap(rgb, maximum)
    return [table[i] for i in random.sample(range(NUM_COLORS), N)]
