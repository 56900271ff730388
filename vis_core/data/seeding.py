"""Random draws that belong to a clip, not to a process.

The seed of a clip follows from the run's seed and the clip's number alone, so a clip looks the same whatever worker
or process makes it and however often the run was interrupted before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def clip_seed(seed: int, clip: int) -> int:
    """32-bit seed of clip number ``clip`` (>= 0) of a run with ``seed`` (>= 0)."""
    return int(np.random.SeedSequence((seed, clip)).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the global generators of random, numpy and torch seeded, and put them back afterwards.

    Putting them back keeps a loader without workers from changing what the training process itself draws.
    """
    generators = _torch_generators()
    states = random.getstate(), np.random.get_state(), [generator.get_state() for generator in generators]
    random.seed(seed)
    np.random.seed(seed)
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for generator, state in zip(generators, states[2]):
            generator.set_state(state)


def _torch_generators() -> list[torch.Generator]:
    """The CPU's and, in a process that uses CUDA (a loader's workers do not), the current device's."""
    if not torch.cuda.is_initialized():
        return [torch.default_generator]
    return [torch.default_generator, torch.cuda.default_generators[torch.cuda.current_device()]]
