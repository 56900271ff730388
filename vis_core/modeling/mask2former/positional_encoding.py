"""Where a pixel is, as sines (Vaswani et al., NeurIPS 2017; in two dimensions as in DETR, ECCV 2020)."""

from __future__ import annotations

import math

import torch

TEMPERATURE = 10000


def sine_positional_encoding(
    height: int, width: int, dim: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """Encoding of every pixel of a map; float32 whatever autocast says.

    Pixel i of n lies at ``2 pi (i + 1) / (n + 1e-6)``. Its row makes the first half of the channels, its column the
    second; within a half, channel k is the sine (even k) or cosine (odd k) at frequency
    ``10000 ** (-2 floor(k / 2) / half)``.

    Args:
        dim: number of channels, a multiple of 4.

    Returns:
        (dim, height, width).
    """
    half = dim // 2
    rows, columns = (_axis_encoding(size, half, device) for size in (height, width))  # (half, size)
    return torch.cat([rows[:, :, None].expand(half, height, width), columns[:, None].expand(half, height, width)])


def _axis_encoding(size: int, channels: int, device: torch.device | str | None) -> torch.Tensor:
    positions = torch.arange(1, size + 1, dtype=torch.float32, device=device) / (size + 1e-6) * (2 * math.pi)
    exponents = torch.arange(channels, dtype=torch.float32, device=device).div(2, rounding_mode="floor") * 2 / channels
    phases = positions / (TEMPERATURE**exponents)[:, None]  # (channels, size)
    return torch.where((torch.arange(channels, device=device) % 2 == 0)[:, None], phases.sin(), phases.cos())
