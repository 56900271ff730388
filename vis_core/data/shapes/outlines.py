"""Outlines of the ShapesVIS categories as polygons.

Coordinates are local: origin in the middle, radius about 1, y down. An outline is a list of closed contours
(K, 2) float64; contours combine by the even-odd rule, so a ring is two circles.
"""

from __future__ import annotations

import numpy as np

CATEGORIES = ("circle", "triangle", "square", "star", "cross", "ring")

_ARC_POINTS = 64
_ROUNDING = 0.22  # how far from a corner, in local units, its rounding starts


def outline(category: str, rounded: bool) -> list[np.ndarray]:
    """Contours of one of :data:`CATEGORIES`, with rounded or exact corners."""
    if category == "circle":
        return [_circle(0.95)]
    if category == "ring":
        return [_circle(1.0), _circle(0.52)]
    corners = _CORNERS[category]
    return [_round_corners(corners, _ROUNDING) if rounded else corners]


def _circle(radius: float) -> np.ndarray:
    return radius * _directions(_ARC_POINTS)


def _directions(count: int, start: float = -np.pi / 2) -> np.ndarray:
    angles = start + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(points: int, outer: float, inner: float) -> np.ndarray:
    directions = _directions(2 * points)
    directions[::2] *= outer
    directions[1::2] *= inner
    return directions


def _cross(arm: float, half_width: float) -> np.ndarray:
    a, w = arm, half_width
    return np.array(
        [(-w, -a), (w, -a), (w, -w), (a, -w), (a, w), (w, w), (w, a), (-w, a), (-w, w), (-a, w), (-a, -w), (-w, -w)]
    )


_CORNERS = {
    "triangle": 1.2 * _directions(3),
    "square": 0.86 * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),
    "star": _star(5, outer=1.2, inner=0.5),
    "cross": _cross(arm=1.05, half_width=0.34),
}


def _round_corners(corners: np.ndarray, distance: float, steps: int = 6) -> np.ndarray:
    """Replace every corner by a quadratic Bezier arc that leaves and meets the edges ``distance`` away from it."""
    before = np.roll(corners, 1, axis=0) - corners
    after = np.roll(corners, -1, axis=0) - corners
    length = np.minimum(np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1))
    cut = np.minimum(distance, 0.45 * length)[:, None]
    start = corners + cut * before / np.linalg.norm(before, axis=1, keepdims=True)
    end = corners + cut * after / np.linalg.norm(after, axis=1, keepdims=True)
    s = np.linspace(0, 1, steps)[None, :, None]
    arcs = (1 - s) ** 2 * start[:, None] + 2 * s * (1 - s) * corners[:, None] + s**2 * end[:, None]  # (K, steps, 2)
    return arcs.reshape(-1, 2)
