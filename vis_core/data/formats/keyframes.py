"""Between keyframes: what an annotation tool shows there, computed.

A key is a frame number with a shape, or with None where the object cannot be seen. A shape holds until the next key,
or moves evenly towards it if both are of a kind that can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Of kind "box", "ellipse", "polygon" or "mask".

    Attributes:
        points: (K, 2) corners of a polygon; two opposite ones of a box; middle and half-axes of an ellipse.
        degrees: clockwise turn of a box or ellipse.
        patch: (h, w) bool of a mask.
        origin: (left, top) of a mask.
    """

    kind: str
    points: np.ndarray | None = None
    degrees: float = 0.0
    patch: np.ndarray | None = None
    origin: tuple[int, int] = (0, 0)


def fill_frames(keys: Mapping[int, Shape | None], numbers: list[int]) -> dict[int, Shape]:
    """Shape in each of the frames ``numbers`` (ascending) where the object can be seen.

    Before the first key there is none; after the last one it stays.
    """
    if not keys:
        return {}
    places = sorted(keys)
    shapes, current = {}, -1
    for number in numbers:
        while current + 1 < len(places) and places[current + 1] <= number:
            current += 1
        left = keys[places[current]] if current >= 0 else None
        if left is None:
            continue
        following = places[current + 1] if current + 1 < len(places) else None
        right = None if following is None else keys[following]
        if right is None or number == places[current]:
            shapes[number] = left
        else:
            shapes[number] = between(left, right, (number - places[current]) / (following - places[current]))
    return shapes


def between(left: Shape, right: Shape, share: float) -> Shape:
    """The shape ``share`` (0 to 1) of the way from ``left`` to ``right``; masks and changes of kind do not move."""
    if left.kind != right.kind or left.kind == "mask":
        return left
    turn = (right.degrees - left.degrees + 180) % 360 - 180  # the shorter way round
    first, second = left.points, right.points
    if left.kind == "polygon" and len(first) != len(second):
        first, second = matched(first, second)
    points = (1 - share) * first + share * second
    return replace(left, points=points, degrees=left.degrees + share * turn)


def matched(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closed outlines (K, 2) and (L, 2) as two with equally many corners that belong together, (M, 2) each.

    Corners belong together that lie at about the same share of their outline's length; every corner gets a partner.
    """
    a, b = _shares(first), _shares(second)
    distance = np.abs(a[:, None] - b[None, :])
    distance = np.minimum(distance, 1 - distance)  # (K, L), around the outline
    pairs = {(i, int(j)) for i, j in enumerate(distance.argmin(1))}
    partnered = {j for _, j in pairs}
    pairs |= {(int(i), j) for j, i in enumerate(distance.argmin(0)) if j not in partnered}
    order = sorted(pairs, key=lambda pair: (a[pair[0]], (b[pair[1]] - a[pair[0]] + 0.5) % 1))
    return first[[i for i, _ in order]], second[[j for _, j in order]]


def _shares(points: np.ndarray) -> np.ndarray:
    """Where each corner lies on the closed outline, from 0 at the first to below 1."""
    steps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    total = max(float(steps.sum()), 1e-9)
    return np.concatenate([[0.0], np.cumsum(steps[:-1])]) / total
