"""Hooks that Detectron2 does not have."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng

# A prime stride keeps the seeds of neighbouring runs (SEED, SEED + 1, ...) apart over all iterations.
_STRIDE = 1_000_003


class IterationSeed(HookBase):
    """Seeds all generators from (seed, iteration, rank) before every step.

    What is drawn at an iteration then depends on nothing that came before, so that a resumed run draws what the
    uninterrupted one would have drawn, without any generator's state in the checkpoint.
    """

    def __init__(self, seed: Callable[[], int], rank: int):
        self._seed = seed  # asked at every step: loading a checkpoint may change it
        self._rank = rank

    def before_step(self) -> None:
        seed_all_rng((self._seed() * _STRIDE + self.trainer.iter * 1009 + self._rank) % 2**31)
