"""Convolutions whose weights a query brings along (CondInst, ECCV 2020), and what they need.

They compute in float32 under autocast, too: their inputs are offsets of hundreds of pixels.

Shapes: T frames, N instances, C channels of a map, D hidden channels, P parameters, (h, w) a map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F


class DynamicWeights(NamedTuple):
    """Weights (N, out, in) and biases (N, out) of three 1x1 convolutions."""

    weights: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    biases: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def num_parameters(dim_in: int, dim_hidden: int) -> int:
    """P of convolutions dim_in -> D -> D -> 1."""
    return dim_in * dim_hidden + dim_hidden**2 + dim_hidden + 2 * dim_hidden + 1


def split_parameters(parameters: torch.Tensor, dim_in: int, dim_hidden: int) -> DynamicWeights:
    """Parameters (N, P), all weights before all biases, as convolutions dim_in -> D -> D -> 1."""
    dims = ((dim_hidden, dim_in), (dim_hidden, dim_hidden), (1, dim_hidden))
    sizes = [out * into for out, into in dims] + [out for out, _ in dims]
    parts = full_precision(parameters).split(sizes, dim=1)
    return DynamicWeights(tuple(part.unflatten(1, shape) for part, shape in zip(parts, dims)), tuple(parts[3:]))


def dynamic_masks(
    weights: DynamicWeights,
    shared: torch.Tensor,
    references: torch.Tensor,
    stride: int,
    own: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mask logits from a map that all instances share.

    The first convolution reads, in this order, each pixel's offset (x, y) to the instance's reference point in pixels
    of the image, the instance's own channel if there is one, and the shared map.

    Args:
        weights: of N instances, dim_in = 2 + (own is given) + C.
        shared: (T, C, h, w).
        references: (T, N, 2) points (x, y), pixels of the image.
        stride: of the map.
        own: (T, N, h, w).

    Returns:
        (T, N, h, w).
    """
    with torch.autocast(shared.device.type, enabled=False):
        return _dynamic_masks(weights, full_precision(shared), references, stride, own)


def _dynamic_masks(weights, shared, references, stride, own) -> torch.Tensor:
    num_frames, num_instances = references.shape[:2]
    height, width = shared.shape[-2:]
    first, bias = weights.weights[0], weights.biases[0]
    num_hidden = first.shape[1]
    own_channels = 0 if own is None else 1
    kernel = first[:, :, 2 + own_channels :].flatten(0, 1)[..., None, None]  # (N * D, C, 1, 1)
    hidden = F.conv2d(shared, kernel, bias.flatten()).view(num_frames, num_instances, num_hidden, height, width)
    # The offset to a point, times a weight, is a value for each row and one for each column.
    x = references[..., :1] - pixel_centres(width, stride, shared.device)  # (T, N, w)
    y = references[..., 1:] - pixel_centres(height, stride, shared.device)  # (T, N, h)
    hidden = hidden + (first[:, :, 0, None] * x[:, :, None])[..., None, :]
    hidden = hidden + (first[:, :, 1, None] * y[:, :, None])[..., None]
    if own is not None:
        hidden = hidden + first[:, :, 2, None, None] * full_precision(own)[:, :, None]
    return remaining_layers(weights, F.relu(hidden))


def remaining_layers(weights: DynamicWeights, hidden: torch.Tensor, start: int = 1) -> torch.Tensor:
    """Convolutions from number ``start`` on, ReLU between them: (T, N, in, h, w) -> (T, N, h, w)."""
    size = hidden.shape[-2:]
    x = full_precision(hidden).flatten(3)  # (T, N, in, h * w)
    with torch.autocast(hidden.device.type, enabled=False):
        for index in range(start, 3):
            x = weights.weights[index] @ x + weights.biases[index][:, :, None]
            if index < 2:
                x = F.relu(x)
    return x[:, :, 0].unflatten(2, size)


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Half precision as float32; other types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def pixel_centres(size: int, stride: int, device: torch.device | str | None = None) -> torch.Tensor:
    """(size,) where a map's rows or columns lie in the image, in pixels, as the release counts."""
    return torch.arange(size, device=device, dtype=torch.float32) * stride + stride // 2


def double_size(masks: torch.Tensor) -> torch.Tensor:
    """Bilinear, a value staying above the pixel that it was measured at: (T, N, h, w) -> (T, N, 2h, 2w)."""
    height, width = masks.shape[-2:]
    padded = F.pad(masks, (0, 1, 0, 1), mode="replicate")
    enlarged = F.interpolate(padded, size=(2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True)
    return F.pad(enlarged, (1, 0, 1, 0), mode="replicate")[..., : 2 * height, : 2 * width]


def resize_nearest(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(T, C, h, w) -> (T, C, *size)."""
    return maps if tuple(maps.shape[-2:]) == tuple(size) else F.interpolate(maps, size=tuple(size), mode="nearest")
