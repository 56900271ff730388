"""Where a pixel is, as sines, measured at pixel centres (Deformable DETR, ICLR 2021).

Not Mask2Former's encoding, which measures at the pixels' far edges and knows no padding.
"""

from __future__ import annotations

import math

import torch

TEMPERATURE = 10000


def centred_positional_encoding(padding: torch.Tensor, dim: int) -> torch.Tensor:
    """Code of every pixel of padded maps; float32 whatever autocast says.

    The i-th valid pixel of n in a column, counted from 1, lies at ``2 pi (i - 0.5) / (n + 1e-6)``. This makes the first
    half of the channels, its place in its row the second; within a half, channel k is the sine (even k) or cosine
    (odd k) at frequency ``10000 ** (-2 floor(k / 2) / half)``.

    Args:
        padding: (N, H, W) bool, True where a map is padded.
        dim: C, number of channels, a multiple of 4.

    Returns:
        (N, C, H, W).
    """
    valid = (~padding).float()
    halves = []
    for axis in (1, 2):
        counts = valid.cumsum(dim=axis)
        last = counts.narrow(axis, counts.shape[axis] - 1, 1)
        halves.append(_code((counts - 0.5) / (last + 1e-6) * (2 * math.pi), dim // 2))
    return torch.cat(halves, dim=1)


def unpadded_positional_encoding(
    height: int, width: int, dim: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """:func:`centred_positional_encoding` of one map without padding, computed by axis: (C, height, width)."""
    half = dim // 2
    rows, columns = (
        _code(((torch.arange(1, size + 1, device=device) - 0.5) / (size + 1e-6) * (2 * math.pi))[None], half)[0]
        for size in (height, width)
    )  # (C / 2, height), (C / 2, width)
    return torch.cat([rows[:, :, None].expand(half, height, width), columns[:, None].expand(half, height, width)])


def _code(positions: torch.Tensor, channels: int) -> torch.Tensor:
    """(N, ...) to (N, channels, ...)."""
    index = torch.arange(channels, dtype=torch.float32, device=positions.device)
    frequencies = TEMPERATURE ** (2 * index.div(2, rounding_mode="floor") / channels)
    shape = (-1, *[1] * (positions.dim() - 1))
    phases = positions[:, None] / frequencies.view(shape)
    return torch.where((index % 2 == 0).view(shape), phases.sin(), phases.cos())
