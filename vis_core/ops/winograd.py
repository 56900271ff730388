"""3x3 convolutions on a CPU with a quarter of the multiplications (Lavin and Gray, CVPR 2016, F(4x4, 3x3)).

PyTorch's CPU kernels convolve directly. Here each tile of 4x4 outputs is computed from 6x6 inputs in a space where the
convolution is a matrix product over channels. Rounding errors are some five times those of a direct convolution: below
5e-6 of the greatest output.

Shapes: B images, C and D input and output channels, (H, W) pixels, R x K tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

# Tiles computed at once; what they take, transformed, stays in the cache.
TILES_AT_ONCE = 240
# From these numbers of tiles and channels on it takes at most two thirds of a direct convolution's time (AMD EPYC).
MIN_TILES, MIN_CHANNELS = 30, 128

# Where polynomials are interpolated, beside infinity. 0, 1, -1, 2 and -2, the usual choice, makes simpler matrices and
# errors three times as large.
POINTS = (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)


def _matrices(points: Sequence[float]) -> tuple[torch.Tensor, ...]:
    """What transforms inputs, kernels and products along one direction: (6, 6), (6, 3) and (4, 6), float64.

    A product of polynomials is known from its values at as many points as it has coefficients (Toom and Cook);
    the transposed algorithm is a convolution.
    """
    powers = torch.tensor([[point**k for k in range(6)] for point in points], dtype=torch.float64)
    inputs, kernel, output = (torch.zeros(size, dtype=torch.float64) for size in ((6, 6), (6, 3), (4, 6)))
    for row, point in enumerate(points):
        others = [x for x in points if x != point]
        kernel[row] = powers[row, :3] / math.prod(point - x for x in others)
        inputs[row, :5] = _polynomial(others)
        output[:, row] = powers[row, :4]
    inputs[5] = _polynomial(points)
    kernel[5, 2] = output[3, 5] = 1
    return inputs, kernel, output


def _polynomial(roots: Sequence[float]) -> torch.Tensor:
    """Coefficients of the product of all x - root, that of x^0 first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = F.pad(coefficients, (1, 0)) - root * F.pad(coefficients, (0, 1))
    return coefficients


# For both directions at once: (36, 36), (36, 9) and (16, 36).
_INPUT_2D, _KERNEL_2D, _OUTPUT_2D = (torch.kron(x, x).float() for x in _matrices(POINTS))


def pays_off(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether :func:`conv3x3` of these is clearly faster than a direct convolution."""
    tiles = -(-x.shape[-2] // 4) * -(-x.shape[-1] // 4)
    return tiles >= MIN_TILES and min(weight.shape[:2]) >= MIN_CHANNELS


def transform(weight: torch.Tensor) -> torch.Tensor:
    """What :func:`conv3x3` needs of weights (D, C, 3, 3), four times their size: (36, D, C)."""
    return (_KERNEL_2D @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *weight.shape[:2])


def conv3x3(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``F.conv2d(x, weight, bias, padding=1)`` without gradients.

    Args:
        x: (B, C, H, W) float32 on a CPU.
        kernel: (36, D, C), the weight's :func:`transform`.
        bias: (D,) or None.

    Returns:
        (B, D, H, W) in the memory format of ``x``.
    """
    (_, _, height, width), (_, dim_out, dim_in) = x.shape, kernel.shape
    rows, columns = -(-height // 4), -(-width // 4)
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    x = F.pad(x, (1, 4 * columns - width + 1, 1, 4 * rows - height + 1))
    bias = kernel.new_zeros(dim_out) if bias is None else bias
    size = len(x), dim_out, 4 * rows, 4 * columns
    out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=memory_format)
    step = max(TILES_AT_ONCE // columns, 1)
    for image, result in zip(x, out):
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            part = image[:, 4 * begin : 4 * (begin + count) + 2]
            tiles = part.unfold(1, 6, 4).unfold(2, 6, 4)  # (C, R, K, 6, 6)
            if is_channels_last:
                tiles = _INPUT_2D @ tiles.permute(3, 4, 1, 2, 0).reshape(36, -1)
                product = torch.bmm(tiles.view(36, -1, dim_in), kernel.transpose(1, 2))  # (36, R * K, D)
                done = (_OUTPUT_2D @ product.view(36, -1)).view(4, 4, count, columns, dim_out).movedim(4, 2)
            else:
                tiles = _INPUT_2D @ tiles.permute(3, 4, 0, 1, 2).reshape(36, -1)
                product = torch.bmm(kernel, tiles.view(36, dim_in, -1))  # (36, D, R * K)
                done = (_OUTPUT_2D @ product.view(36, -1)).view(4, 4, dim_out, count, columns)
            target = result[:, 4 * begin : 4 * (begin + count)].view(dim_out, count, 4, columns, 4)
            torch.add(done.permute(2, 3, 0, 4, 1), bias[:, None, None, None, None], out=target)
    return out[..., :height, :width].contiguous(memory_format=memory_format)
