"""Which frames make a clip.

All draws come from the global generators of ``random`` and ``numpy.random``, in the order that the published
configurations used; the loader seeds both from the clip's number (see :mod:`vis_core.data.seeding`).
A rule returns ``num`` frame indices in [0, length); a video that is too short repeats frames.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vis_core.errors import ConfigError

RULES = ("window", "consecutive", "neighbours", "reference")


def sample_window(length: int, num: int, radius: int, interval: int = 1, ref: int | None = None) -> list[int]:
    """A frame and ``num - 1`` others, with replacement, of those at distance interval..radius from it; sorted.

    The sampling of Mask2Former-video, IDOL (``interval``), VITA and CTVIS.
    """
    ref = random.randrange(length) if ref is None else ref
    others = [t for t in range(max(ref - radius, 0), min(ref + radius + 1, length)) if abs(t - ref) >= max(interval, 1)]
    return sorted(_draw(others, num - 1, ref) + [ref])


def sample_stride(length: int, ratio: float) -> list[int]:
    """One frame out of an evenly spaced ``ratio`` of the video (MinVIS' training on fewer labels)."""
    kept = max(round(length * ratio), 1)
    if kept == 1:
        return [length // 2]
    return [int(random.choice(np.linspace(0, length, kept, endpoint=False, dtype=int)))]


def sample_consecutive(length: int, num: int, reverse: bool = False) -> list[int]:
    """``num`` frames in a row, with ``reverse`` backwards half of the time (DVIS' temporal refiner).

    As published, the last possible window is never drawn, and a shorter video gives all its frames followed by
    random repeats.
    """
    if length < num:
        frames = list(range(length)) + np.random.choice(length, num - length).tolist()
    else:
        start = random.randrange(length - num) if length > num else 0
        frames = list(range(start, start + num))
    if reverse and random.random() < 0.5:
        frames.reverse()
    return frames


def sample_neighbours(length: int, num: int, ref: int | None = None) -> list[int]:
    """A frame, one 1-3 before, one 1-3 after, and ``num - 3`` from outside these; sorted (SeqFormer, VMT).

    The frames from outside are drawn without replacement, from the whole video where there are too few.
    """
    ref = random.randrange(length) if ref is None else ref
    before, after = max(ref - random.randint(1, 3), 0), min(ref + random.randint(1, 3), length - 1)
    frames, rest = [before, ref, after], num - 3
    for pool in ([t for t in range(length) if not before <= t <= after], range(length)):
        if len(pool) >= rest:
            return sorted(frames + random.sample(pool, rest))
    return sorted(frames + random.choices(range(length), k=rest))


def sample_reference(
    length: int, num: int, radius: int, key: int | None = None, candidates: Sequence[int] | None = None
) -> list[int]:
    """The key frame first, then ``num - 1`` reference frames, uniform over the candidates within ``radius`` of it
    (MaskTrack R-CNN). Without ``candidates`` every frame is one; where there is none the key frame itself is taken.
    """
    key = random.randrange(length) if key is None else key
    pool = range(length) if candidates is None else candidates
    return [key] + _draw([t for t in pool if t != key and abs(t - key) <= radius], num - 1, key)


def _draw(pool: Sequence[int], num: int, fallback: int) -> list[int]:
    if not pool:
        return [fallback] * num
    return np.random.choice(np.asarray(pool), num).tolist()


@dataclass(frozen=True)
class ClipSampling:
    """The INPUT.SAMPLING_* keys as one callable."""

    num: int
    radius: int
    rule: str = "window"
    interval: int = 1
    ratio: float = 1.0
    reverse: bool = False
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ConfigError(f"INPUT.SAMPLING_FRAME_NUM is {self.num}: a clip has at least one frame")
        if self.rule not in RULES:
            raise ConfigError(f"INPUT.SAMPLING_RULE '{self.rule}' is unknown; known: {', '.join(RULES)}")
        if self.rule == "neighbours" and self.num < 3:
            raise ConfigError("INPUT.SAMPLING_RULE neighbours needs SAMPLING_FRAME_NUM 3 or more")
        if self.ratio < 1 and (self.num > 1 or self.rule != "window"):
            raise ConfigError("INPUT.SAMPLING_FRAME_RATIO below 1 needs SAMPLING_FRAME_NUM 1 and SAMPLING_RULE window")
        if self.shuffle and self.rule == "reference":
            raise ConfigError("INPUT.SAMPLING_FRAME_SHUFFLE: with SAMPLING_RULE reference the key frame comes first")

    @classmethod
    def from_config(cls, cfg) -> ClipSampling:
        return cls(
            num=cfg.INPUT.SAMPLING_FRAME_NUM,
            radius=cfg.INPUT.SAMPLING_FRAME_RANGE,
            rule=cfg.INPUT.SAMPLING_RULE,
            interval=cfg.INPUT.SAMPLING_INTERVAL,
            ratio=cfg.INPUT.SAMPLING_FRAME_RATIO,
            reverse=cfg.INPUT.REVERSE_AGU,
            shuffle=cfg.INPUT.SAMPLING_FRAME_SHUFFLE,
        )

    def __call__(self, length: int, ref: int | None = None, candidates: Sequence[int] | None = None) -> list[int]:
        """Frame indices of one clip; ``ref`` fixes the frame around which the others are drawn."""
        if self.ratio < 1:
            return sample_stride(length, self.ratio)
        if self.rule == "reference":
            return sample_reference(length, self.num, self.radius, ref, candidates)
        if self.rule == "neighbours":
            frames = sample_neighbours(length, self.num, ref)
        elif self.rule == "consecutive":
            frames = sample_consecutive(length, self.num, self.reverse)
        else:
            frames = sample_window(length, self.num, self.radius, self.interval, ref)
        if self.shuffle:
            random.shuffle(frames)
        return frames
