"""Paths of ShapesVIS objects and of the camera.

A path is a slow wandering inside the frame plus short excursions: out of the frame and back, or over to another
object and back. Speeds are per frame, so longer videos show more events, not slower ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Motion:
    """One object's pose in each of T frames: centre (T, 2) x, y in pixels; radius (T,) in pixels; angle (T,) in
    radians; stretch (T,) the ratio of its two axes."""

    center: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    stretch: np.ndarray


def wander(rng: np.random.Generator, length: int, amplitude: np.ndarray, speed: float) -> np.ndarray:
    """Smooth bounded drift (T, 2): two sines per axis, ``amplitude`` (2,) pixels, about ``speed`` pixels per frame."""
    t = np.arange(length)[:, None]
    drift = np.zeros((length, 2))
    for share in (0.7, 0.3):
        reach = share * amplitude * rng.uniform(0.7, 1.3, 2)
        omega = speed * rng.uniform(0.5, 1.0, 2) / np.maximum(amplitude, 1e-6) / np.sqrt(share)
        drift += reach * np.sin(omega * t + rng.uniform(0, 2 * np.pi, 2))
    return drift


def bump(length: int, start: float, rise: float, hold: float) -> np.ndarray:
    """(T,) from 0 to 1 within ``rise`` frames, there for ``hold`` frames, and back: a raised cosine with a flat top."""
    t = np.arange(length)
    up = np.clip((t - start) / rise, 0, 1)
    down = np.clip((start + 2 * rise + hold - t) / rise, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(up, down))


def object_motion(rng: np.random.Generator, length: int, height: int, width: int, difficulty: float) -> Motion:
    """Wandering, turning, breathing motion of one object that stays in the frame."""
    unit = min(height, width)
    size = np.array([width, height], dtype=np.float64)
    speed = unit * rng.uniform(0.006, 0.016 + 0.024 * difficulty)
    home = size * rng.uniform(0.2, 0.8, 2)
    center = home + wander(rng, length, size * rng.uniform(0.08, 0.2, 2), speed)

    t = np.arange(length)
    radius = unit * rng.uniform(0.15 - 0.06 * difficulty, 0.24)
    breath = (0.08 + 0.2 * difficulty) * np.sin(rng.uniform(0.05, 0.2) * t + rng.uniform(0, 2 * np.pi))
    turn = rng.normal(0, 0.03 + 0.08 * difficulty)
    tilt = 0.05 + 0.2 * difficulty
    return Motion(
        center=center,
        radius=radius * (1 + breath),
        angle=rng.uniform(0, 2 * np.pi) + turn * t,
        stretch=1 - tilt * (0.5 + 0.5 * np.sin(rng.uniform(0.05, 0.25) * t + rng.uniform(0, 2 * np.pi))),
    )


def add_exits(rng: np.random.Generator, motion: Motion, height: int, width: int, difficulty: float) -> None:
    """Let the object leave the frame and come back, on average every 70 (easy) to 25 (hard) frames; in place."""
    length = len(motion.radius)
    for _ in range(rng.poisson(length * (0.015 + 0.025 * difficulty))):
        hold = rng.uniform(2, 5)
        start = rng.uniform(-4, length - 2)
        middle = int(np.clip(start + 4, 0, length - 1))
        x, y = motion.center[middle]
        margin = 1.5 * float(motion.radius.max())
        offsets = ((-x - margin, 0.0), (width - x + margin, 0.0), (0.0, -y - margin), (0.0, height - y + margin))
        # The nearer of the four edges, mostly: long dashes across the frame look unnatural.
        distances = np.array([abs(dx) + abs(dy) for dx, dy in offsets])
        order = np.argsort(distances)
        offset = np.array(offsets[order[0] if rng.random() < 0.7 else order[1]])
        rise = np.clip(np.linalg.norm(offset) / (0.07 * width), 2.5, 8)
        motion.center += bump(length, start, rise, hold)[:, None] * offset


def add_meetings(rng: np.random.Generator, motions: list[Motion], difficulty: float) -> None:
    """Send objects across each other's paths, so that real occlusions happen; in place."""
    length = len(motions[0].radius)
    if len(motions) < 2:
        return
    for _ in range(rng.poisson(length * (0.02 + 0.08 * difficulty))):
        mover, target = rng.choice(len(motions), 2, replace=False)
        meeting = int(rng.integers(length))
        near = rng.normal(0, 0.4, 2) * motions[target].radius[meeting]
        offset = motions[target].center[meeting] + near - motions[mover].center[meeting]
        rise = np.clip(np.linalg.norm(offset) / (0.25 * float(motions[target].radius.mean()) + 1), 3, 10)
        motions[mover].center += bump(length, meeting - rise, rise, 1.0)[:, None] * offset
