"""Multi-scale deformable attention in Triton, for CUDA.

A program handles one head of one image for a block of queries, and keeps their sums in registers. Importing this
module needs Triton. With ``TRITON_INTERPRET=1`` in the environment the kernels run on CPU tensors, for tests.

Shapes: N images, S tokens, M heads, D channels a head, Q queries, L levels, P points.
"""

# Annotations are no strings here: the interpreter of Triton 3.0 knows constants by them.
import contextlib
import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

QUERIES_PER_PROGRAM = 32


def forward(
    value: torch.Tensor, shapes: Sequence[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """(N, Q, M * D); arguments as of :func:`vis_core.ops.ms_deform_attn`."""
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    num_images, _, num_heads, dim = value.shape
    out = value.new_empty(num_images, locations.shape[1], num_heads * dim)
    sizes = _sizes(value, locations, weights)
    if out.numel():
        with _on(value.device):
            _forward_kernel[_programs(value, locations)](
                value, locations, weights, _levels(tuple(shapes), value.device), out, **sizes
            )
    return out


def backward(
    grad: torch.Tensor,
    value: torch.Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights, given that of the output, (N, Q, M * D)."""
    grad, value, locations, weights = (x.contiguous() for x in (grad, value, locations, weights))
    sizes = _sizes(value, locations, weights)
    # Many samples add to one pixel: half precision would swallow the small ones.
    sum_type = torch.float64 if sizes["SUM_TYPE"] == tl.float64 else torch.float32
    grad_value = torch.zeros_like(value, dtype=sum_type)
    grad_locations, grad_weights = torch.empty_like(locations), torch.empty_like(weights)
    if grad.numel():
        with _on(value.device):
            _backward_kernel[_programs(value, locations)](
                grad,
                value,
                locations,
                weights,
                _levels(tuple(shapes), value.device),
                grad_value,
                grad_locations,
                grad_weights,
                **sizes,
            )
    return grad_value.to(value.dtype), grad_locations, grad_weights


def _programs(value: torch.Tensor, locations: torch.Tensor) -> tuple[int, int]:
    return triton.cdiv(locations.shape[1], QUERIES_PER_PROGRAM), value.shape[0] * value.shape[2]


def _sizes(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> dict:
    _, num_tokens, num_heads, dim = value.shape
    _, num_queries, _, num_levels, num_points, _ = locations.shape
    is_double = torch.float64 in (value.dtype, locations.dtype, weights.dtype)
    return {
        "num_tokens": num_tokens,
        "num_queries": num_queries,
        "M": num_heads,
        "D": dim,
        "L": num_levels,
        "P": num_points,
        "BLOCK_Q": QUERIES_PER_PROGRAM,
        "BLOCK_D": triton.next_power_of_2(dim),
        "SUM_TYPE": tl.float64 if is_double else tl.float32,
    }


@functools.lru_cache(maxsize=64)
def _levels(shapes: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
    """(L, 3) int32: height, width and first token of every level. Kept, since a copy to the GPU waits for it."""
    rows, start = [], 0
    for height, width in shapes:
        rows.append((height, width, start))
        start += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _on(device: torch.device):
    """Triton launches on the current GPU, whatever the tensors' own. (CPU tensors: in the interpreter.)"""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@triton.jit
def _rows(num_tokens, num_queries, M: tl.constexpr, D: tl.constexpr, BLOCK_Q: tl.constexpr):
    """This program's queries (BLOCK_Q,): which exist, their rows among all, and where their image's tokens begin."""
    queries = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    image = (tl.program_id(1) // M).to(tl.int64)
    head = tl.program_id(1) % M
    rows = (image * num_queries + queries) * M + head
    return queries < num_queries, rows, image * num_tokens * M * D + head * D + tl.zeros_like(rows)


@triton.jit
def _sample(locations, weights, sample, exists, height, width, SUM_TYPE: tl.constexpr):
    """Pixel coordinates x and y and weights of samples, (BLOCK_Q,) each."""
    x = tl.load(locations + 2 * sample, mask=exists, other=0).to(SUM_TYPE) * width - 0.5
    y = tl.load(locations + 2 * sample + 1, mask=exists, other=0).to(SUM_TYPE) * height - 0.5
    return x, y, tl.load(weights + sample, mask=exists, other=0).to(SUM_TYPE)


@triton.jit
def _cell(x, size, SUM_TYPE: tl.constexpr):
    """The pixel before a coordinate, and how far it is from there to the next one, in [0, 1) or not a number."""
    # Beyond one pixel outside nothing is left; clamping keeps the integers small. (It makes -1 of what is no number.)
    clamped = tl.minimum(tl.maximum(x, -1.0), size.to(SUM_TYPE))
    pixel = tl.floor(clamped)
    return pixel.to(tl.int32), tl.where(x == x, clamped - pixel, x)


@triton.jit
def _corner(base, lines, columns, height, width, start, row_stride, channels, D: tl.constexpr):
    """Offsets (BLOCK_Q, BLOCK_D) of pixels, and which of them exist."""
    inside = (lines >= 0) & (lines < height) & (columns >= 0) & (columns < width)
    offsets = base + (start + lines * width + columns) * row_stride
    return offsets[:, None] + channels[None, :], inside[:, None] & (channels < D)[None, :]


@triton.jit
def _forward_kernel(
    value,
    locations,
    weights,
    levels,
    out,
    num_tokens,
    num_queries,
    M: tl.constexpr,
    D: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SUM_TYPE: tl.constexpr,
):
    exists, rows, base = _rows(num_tokens, num_queries, M, D, BLOCK_Q)
    channels = tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_Q, BLOCK_D), dtype=SUM_TYPE)
    # Loops, not unrolled: that would take five times as long to compile, and more registers than there are.
    for level in range(L):
        height = tl.load(levels + 3 * level)
        width = tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(P):
            sample = rows * (L * P) + level * P + point
            x, y, weight = _sample(locations, weights, sample, exists, height, width, SUM_TYPE)
            column, x1 = _cell(x, width, SUM_TYPE)
            line, y1 = _cell(y, height, SUM_TYPE)
            for corner in tl.static_range(4):
                # Upper left, upper right, lower left, lower right. (A name for corner // 2 would make it a tensor.)
                offsets, inside = _corner(
                    base, line + corner // 2, column + corner % 2, height, width, start, M * D, channels, D
                )
                share = (y1 if corner // 2 else 1 - y1) * (x1 if corner % 2 else 1 - x1) * weight
                pixels = tl.load(value + offsets, mask=inside, other=0).to(SUM_TYPE)
                total += share[:, None] * pixels
    mask = exists[:, None] & (channels < D)[None, :]
    tl.store(out + rows[:, None] * D + channels[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    grad,
    value,
    locations,
    weights,
    levels,
    grad_value,
    grad_locations,
    grad_weights,
    num_tokens,
    num_queries,
    M: tl.constexpr,
    D: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SUM_TYPE: tl.constexpr,
):
    exists, rows, base = _rows(num_tokens, num_queries, M, D, BLOCK_Q)
    channels = tl.arange(0, BLOCK_D)
    mask = exists[:, None] & (channels < D)[None, :]
    out = tl.load(grad + rows[:, None] * D + channels[None, :], mask=mask, other=0).to(SUM_TYPE)
    for level in range(L):
        height = tl.load(levels + 3 * level)
        width = tl.load(levels + 3 * level + 1)
        start = tl.load(levels + 3 * level + 2)
        for point in range(P):
            sample = rows * (L * P) + level * P + point
            x, y, weight = _sample(locations, weights, sample, exists, height, width, SUM_TYPE)
            seen = (x > -1) & (x < width) & (y > -1) & (y < height)  # otherwise no move changes anything
            column, x1 = _cell(x, width, SUM_TYPE)
            line, y1 = _cell(y, height, SUM_TYPE)
            grad_x = tl.zeros((BLOCK_Q,), dtype=SUM_TYPE)
            grad_y = tl.zeros((BLOCK_Q,), dtype=SUM_TYPE)
            grad_weight = tl.zeros((BLOCK_Q,), dtype=SUM_TYPE)
            for corner in tl.static_range(4):
                # Upper left, upper right, lower left, lower right. (A name for corner // 2 would make it a tensor.)
                offsets, inside = _corner(
                    base, line + corner // 2, column + corner % 2, height, width, start, M * D, channels, D
                )
                share_y = y1 if corner // 2 else 1 - y1
                share_x = x1 if corner % 2 else 1 - x1
                pixels = tl.load(value + offsets, mask=inside, other=0).to(SUM_TYPE)
                dots = tl.sum(pixels * out, axis=1)
                grad_weight += share_y * share_x * dots
                grad_x += (share_y if corner % 2 else -share_y) * dots
                grad_y += (share_x if corner // 2 else -share_x) * dots
                part = (share_y * share_x * weight)[:, None] * out
                tl.atomic_add(grad_value + offsets, part, mask=inside & exists[:, None], sem="relaxed")
            grad_x = tl.where(seen, grad_x * weight * width, 0)
            grad_y = tl.where(seen, grad_y * weight * height, 0)
            kind = grad_locations.dtype.element_ty
            tl.store(grad_locations + 2 * sample, grad_x.to(kind), mask=exists)
            tl.store(grad_locations + 2 * sample + 1, grad_y.to(kind), mask=exists)
            tl.store(grad_weights + sample, grad_weight.to(grad_weights.dtype.element_ty), mask=exists)
