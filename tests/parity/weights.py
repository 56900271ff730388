"""The deterministic weights of the fixtures: every tensor is a function of its key name and shape."""

import zlib

import numpy as np


def fill(key: str, shape) -> np.ndarray:
    """Value of a float parameter or buffer, by the recipe of the fixtures' README."""
    stream = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    x = stream.standard_normal(tuple(shape)).astype(np.float32) if len(shape) else np.float32(stream.standard_normal())
    if key.endswith("running_var"):
        return (1 + 0.5 * np.abs(x)).astype(np.float32)
    if key.endswith("running_mean"):
        return 0.1 * x
    if key.endswith("sampling_offsets.bias"):
        return x
    if len(shape) <= 1:
        return (1 + 0.05 * x) if key.endswith("weight") else 0.02 * x
    return x / np.float32(np.sqrt(np.prod(shape[1:])))
