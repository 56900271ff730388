"""Convolutions and linear layers on a CPU by oneDNN's kernels, also where PyTorch would take others.

PyTorch gives linear layers, and on a single thread 1x1 convolutions, to its BLAS library, which takes a fifth longer on
an AMD EPYC.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

# In channels_last, kernels larger than one pixel add up all products in one sum and have three times the rounding error
# of the usual memory format. On maps up to this size the latter takes no longer, rearranged there and back.
MAX_PIXELS = 5000
# With fewer rows, arranging the weights takes longer than is saved.
MIN_ROWS = 512


def usable(x: torch.Tensor) -> bool:
    """Whether these kernels can take a tensor: float32 on a CPU, no gradient and no autocast."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> torch.Tensor:
    """``F.conv2d`` of a :func:`usable` tensor (B, C, H, W); quickest in channels_last, in which the result is."""
    if weight.shape[2:].numel() > 1 and x.shape[2:].numel() <= MAX_PIXELS:
        x = x.contiguous()
    else:
        x = x.contiguous(memory_format=torch.channels_last)
    out = torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    return out.contiguous(memory_format=torch.channels_last)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``F.linear`` of a :func:`usable` tensor (..., C)."""
    num_rows = x.numel() // x.shape[-1]
    if num_rows < MIN_ROWS:
        return F.linear(x, weight, bias)
    image = x.reshape(1, num_rows, 1, -1).permute(0, 3, 1, 2)  # (1, C, rows, 1), channels_last
    out = torch.mkldnn_convolution(image, weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
