"""Multi-scale deformable attention (Deformable DETR, Zhu et al., ICLR 2021, arXiv 2010.04159, equation 3).

One function for every device: Triton kernels on CUDA, PyTorch's own operators elsewhere. It is a ``torch.library``
operator, so ``torch.compile`` and ``torch.export`` see through it, and has first derivatives.

Shapes: N images, S tokens of all levels together, M heads, D channels a head, Q queries, L levels, P points.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Sequence

import torch

from vis_core.ops import deform_attn_torch

logger = logging.getLogger(__name__)


def ms_deform_attn(
    value: torch.Tensor,
    spatial_shapes: Sequence[tuple[int, int]] | torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
) -> torch.Tensor:
    """Weighted sum of P bilinear samples from each of L feature maps, for every query and head.

    A location's pixel coordinate is ``location * size - 0.5``: (0, 0) and (1, 1) are the outer corners of a map, pixel
    centres lie at ``(i + 0.5) / size``. Corners outside the map count as zero. This is ``grid_sample`` with bilinear
    interpolation, zero padding and ``align_corners=False``.

    Sums are taken in float32 (float64 where an input is float64) whatever the inputs' types, which may differ, as they
    do under autocast. Gradients come in each input's own type. On CUDA the gradient of ``value`` is summed by atomic
    additions, unless ``torch.use_deterministic_algorithms`` is on.

    Args:
        value: (N, S, M, D) floating; the levels' tokens one after the other, each level row by row.
        spatial_shapes: (height, width) of the L levels. Give Python integers where speed matters: a tensor (L, 2)
            that lies on a GPU must be waited for.
        sampling_locations: (N, Q, M, L, P, 2) floating, as (x, y); [0, 1] is inside the map.
        attention_weights: (N, Q, M, L, P) floating.

    Returns:
        (N, Q, M * D) in the type of ``value``.

    Raises:
        ValueError: a shape or type does not fit; the message names the argument.
    """
    if isinstance(spatial_shapes, torch.Tensor):
        spatial_shapes = spatial_shapes.tolist()
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    sizes = [side for shape in spatial_shapes for side in shape]
    return torch.ops.vis_core.ms_deform_attn(value, sizes, sampling_locations, attention_weights)


def _check(value, spatial_shapes, sampling_locations, attention_weights) -> None:
    if value.dim() != 4:
        raise ValueError(f"value: expected (N, S, M, D), got {tuple(value.shape)}")
    num_images, num_tokens, num_heads, _ = value.shape
    if len(spatial_shapes) == 0 or any(len(shape) != 2 or min(shape) < 1 for shape in spatial_shapes):
        raise ValueError(f"spatial_shapes: expected (height, width) > 0 of at least one level, got {spatial_shapes}")
    num_levels = len(spatial_shapes)
    wanted_tokens = sum(height * width for height, width in spatial_shapes)
    if num_tokens != wanted_tokens:
        raise ValueError(f"spatial_shapes: {spatial_shapes} hold {wanted_tokens} tokens, but value has {num_tokens}")
    got = tuple(sampling_locations.shape)
    expected = (num_images, None, num_heads, num_levels, None, 2)
    if len(got) != 6 or any(want is not None and size != want for size, want in zip(got, expected)):
        raise ValueError(
            f"sampling_locations: expected (N={num_images}, Q, M={num_heads}, L={num_levels}, P, 2), got {got}"
        )
    if got[4] == 0:
        raise ValueError(f"sampling_locations: no points (P = 0) in {got}")
    if attention_weights.shape != sampling_locations.shape[:-1]:
        raise ValueError(
            f"attention_weights: expected {got[:-1]} as in sampling_locations, got {tuple(attention_weights.shape)}"
        )
    for name, tensor in (
        ("value", value),
        ("sampling_locations", sampling_locations),
        ("attention_weights", attention_weights),
    ):
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: expected a floating type, got {tensor.dtype}")
        if tensor.device != value.device:
            raise ValueError(f"{name}: is on {tensor.device}, but value is on {value.device}")


# The schemas are spelled out because PyTorch 2.4 cannot infer them from annotations that are strings.
@torch.library.custom_op(
    "vis_core::ms_deform_attn",
    mutates_args=(),
    schema="(Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> Tensor",
)
def _forward(value: torch.Tensor, sizes: Sequence[int], locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return _backend(value).forward(value, _pairs(sizes), locations, weights)


@torch.library.custom_op(
    "vis_core::ms_deform_attn_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    grad: torch.Tensor, value: torch.Tensor, sizes: Sequence[int], locations: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _backend(value).backward(grad.contiguous(), value, _pairs(sizes), locations, weights)


@_forward.register_fake
def _(value, sizes, locations, weights):
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@_backward.register_fake
def _(grad, value, sizes, locations, weights):
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (value, locations, weights))


def _setup_context(ctx, inputs, output) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _autograd(ctx, grad):
    value, locations, weights = ctx.saved_tensors
    grads = torch.ops.vis_core.ms_deform_attn_backward(grad, value, ctx.sizes, locations, weights)
    return grads[0], None, grads[1], grads[2]


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _pairs(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(sizes[::2], sizes[1::2]))


def _backend(value: torch.Tensor):
    """The module whose ``forward`` and ``backward`` suit this tensor's device."""
    if not value.is_cuda or torch.are_deterministic_algorithms_enabled() or not _has_triton():
        return deform_attn_torch
    from vis_core.ops import deform_attn_triton  # needs Triton, which only some platforms have

    return deform_attn_triton


@functools.cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        logger.warning("Triton is not installed: multi-scale deformable attention uses slower PyTorch operators")
    return found
