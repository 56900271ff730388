"""Procedural colours and textures: everything a ShapesVIS surface is made of.

Textures are (H, W, 3) float32 RGB in [0, 255].
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

PATTERNS = ("plain", "stripes", "checks", "dots", "noise", "gradient", "waves")

Palette = tuple[np.ndarray, np.ndarray]  # two RGB colours (3,) float32


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB colour (3,) in [0, 255]; hue wraps around, the others are clipped to [0, 1]."""
    s, v = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1.0, s, v), dtype=np.float32)


def object_palette(rng: np.random.Generator, hue: float) -> Palette:
    """A vivid colour and a lighter, darker or neighbouring companion."""
    saturation, value = rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.0)
    kind = rng.integers(3)
    if kind == 0:
        companion = hsv(hue, saturation * 0.35, 1.0)
    elif kind == 1:
        companion = hsv(hue, saturation, value * 0.5)
    else:
        companion = hsv(hue + rng.choice((-1, 1)) * rng.uniform(0.07, 0.12), saturation, value)
    return hsv(hue, saturation, value), companion


def jitter_palette(rng: np.random.Generator, palette: Palette, amount: float) -> Palette:
    """Nearly the same colours: what a look-alike wears."""
    return tuple(np.clip(c + rng.normal(0, amount, 3), 0, 255).astype(np.float32) for c in palette)


def value_noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int) -> np.ndarray:
    """Smooth noise (H, W) float32 in [0, 1]; the coarsest structures are ``cell`` pixels wide."""
    total = np.zeros((height, width), dtype=np.float32)
    weight = 1.0
    for _ in range(octaves):
        grid = rng.random((int(height / cell) + 3, int(width / cell) + 3), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cell = weight / 2, max(cell / 2, 2.0)
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def pattern(rng: np.random.Generator, kind: str, height: int, width: int, cell: float) -> np.ndarray:
    """Blend weights (H, W) float32 in [0, 1] of a pattern whose period is about ``cell`` pixels.

    Edges are soft over about one pixel, so that moving them does not shimmer.
    """
    if kind == "plain":
        return np.zeros((height, width), dtype=np.float32)
    if kind == "noise":
        return _edge(value_noise(rng, height, width, cell, 2) - 0.5, 0.06)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)  # a rotated grid
    if kind == "gradient":
        return (u - u.min()) / max(float(np.ptp(u)), 1e-6)
    k = 2 * np.pi / cell
    soft = 0.75 * k  # the phase that one and a half pixels cover
    if kind == "stripes":
        return _edge(np.sin(k * u), soft)
    if kind == "waves":
        return _edge(np.sin(k * u + 1.5 * np.sin(0.5 * k * v)), soft)
    if kind == "checks":
        return _edge(np.sin(0.7 * k * u) * np.sin(0.7 * k * v), 0.5 * soft)
    if kind == "dots":
        return _edge(np.sin(k * u) * np.sin(k * v) - 0.35, 0.5 * soft)
    raise ValueError(f"unknown pattern {kind!r}")


def blend(weights: np.ndarray, palette: Palette) -> np.ndarray:
    """Colour weights (H, W) by a palette: 0 gives its first colour, 1 its second."""
    first, second = palette
    return first + weights[..., None] * (second - first)


def object_texture(rng: np.random.Generator, kind: str, size: int, palette: Palette) -> np.ndarray:
    """Square surface texture of an object, ``size`` pixels wide."""
    weights = pattern(rng, kind, size, size, cell=size * rng.uniform(0.16, 0.3))
    texture = blend(weights, palette)
    grain = value_noise(rng, size, size, cell=max(size / 12, 3), octaves=2)
    return texture * (0.9 + 0.2 * grain[..., None])


def background_texture(rng: np.random.Generator, height: int, width: int, unit: float, difficulty: float) -> np.ndarray:
    """A muted ground: two scales of noise between related colours, a faint pattern, and clutter when difficult.

    ``unit`` is the shorter side of a frame in pixels; structures scale with it.
    """
    hue, value = rng.random(), rng.uniform(0.3, 0.7)
    saturation = rng.uniform(0.08, 0.25 + 0.25 * difficulty)
    spread = 0.12 + 0.18 * difficulty
    ground = blend(
        value_noise(rng, height, width, unit * rng.uniform(0.4, 0.8), 4),
        (hsv(hue, saturation, value - spread), hsv(hue + rng.uniform(-0.12, 0.12), saturation, value + spread)),
    )
    patches = _edge(value_noise(rng, height, width, unit * 0.5, 3) - 0.55, 0.08)
    ground += (
        patches[..., None] * (hsv(hue + rng.uniform(0.2, 0.6), saturation, value) - ground) * rng.uniform(0.3, 0.7)
    )
    kind = rng.choice(PATTERNS)
    weights = pattern(rng, str(kind), height, width, cell=unit * rng.uniform(0.12, 0.3))
    ground *= 1 + (0.1 + 0.2 * difficulty) * (weights[..., None] - 0.5)
    ground *= 1 + 0.16 * (value_noise(rng, height, width, max(unit / 24, 4), 2)[..., None] - 0.5)
    ground = np.clip(ground, 0, 255).astype(np.uint8)  # OpenCV draws soft edges into bytes only
    _add_clutter(rng, ground, unit, count=round(14 * difficulty), hue=hue, saturation=saturation)
    return ground.astype(np.float32)


def _add_clutter(
    rng: np.random.Generator, ground: np.ndarray, unit: float, count: int, hue: float, saturation: float
) -> None:
    """Paint irregular blobs and twigs, which belong to no category, into the ground (in place)."""
    height, width = ground.shape[:2]
    for _ in range(count):
        color = hsv(hue + rng.uniform(-0.25, 0.25), saturation * 1.3, rng.uniform(0.25, 0.8)).tolist()
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.5:
            angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
            radii = unit * rng.uniform(0.03, 0.12) * rng.uniform(0.6, 1.4, 9)
            points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
            cv2.fillPoly(ground, [np.round(points * 16).astype(np.int32)], color, cv2.LINE_AA, shift=4)
        else:
            steps = np.cumsum(rng.normal(0, unit * 0.06, (5, 2)), axis=0) + (x, y)
            thickness = max(1, round(unit * rng.uniform(0.008, 0.03)))
            cv2.polylines(
                ground, [np.round(steps * 16).astype(np.int32)], False, color, thickness, cv2.LINE_AA, shift=4
            )


def _edge(signed: np.ndarray, width: float) -> np.ndarray:
    """Step from 0 to 1 where ``signed`` crosses zero, linear over +-``width``."""
    return np.clip(0.5 + signed / (2 * width), 0, 1).astype(np.float32)
