"""Multi-scale deformable attention from PyTorch's own operators, for any device.

A head's output is a sum of 4 * L * P rows of ``value``, seen as a table of S * M rows with D channels: an embedding
bag with weights. One bag per corner of the bilinear interpolation leaves indices and weights in the layout in which
they are computed.

Shapes: N images, S tokens, M heads, D channels a head, Q queries (of a chunk), K = M * L * P samples of a query.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from vis_core.ops.bilinear_corners import CornerGrid

# Samples that a CPU thread works on at a time: what is computed for them stays in its cache.
CHUNK = 2**16


def forward(
    value: torch.Tensor, shapes: Sequence[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """(N, Q, M * D); arguments as of :func:`vis_core.ops.ms_deform_attn`."""
    num_images, num_tokens, num_heads, dim = value.shape
    num_queries, samples_per_bag = locations.shape[1], weights.shape[3] * weights.shape[4]
    dtype = _sum_type(value, locations, weights)
    grid = CornerGrid(shapes, weights.shape[2:], dtype, value.device)
    out = value.new_empty(num_images, num_queries, num_heads * dim)
    for n in range(num_images):
        table = value[n].to(dtype).reshape(num_tokens * num_heads, dim)
        for rows in _chunks(num_queries, num_heads * samples_per_bag, value.device):
            samples = grid.place(locations[n, rows])
            corners = zip(samples.corner_rows(), samples.corner_weights(weights[n, rows]))
            total = None
            for index, weight in corners:
                index, weight = index.view(-1, samples_per_bag), weight.view(-1, samples_per_bag)  # (Q * M, L * P)
                part = F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")  # (Q * M, D)
                total = part if total is None else total.add_(part)
            out[n, rows] = total.view(-1, num_heads * dim)
    return out


def backward(
    grad: torch.Tensor,
    value: torch.Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights, given that of the output, (N, Q, M * D)."""
    num_images, num_tokens, num_heads, dim = value.shape
    num_queries, num_samples = locations.shape[1], num_heads * weights.shape[3] * weights.shape[4]
    dtype, device = _sum_type(value, locations, weights), value.device
    grid = CornerGrid(shapes, weights.shape[2:], dtype, device)
    grad_value = torch.empty_like(value, memory_format=torch.contiguous_format)
    grad_locations = torch.empty_like(locations, memory_format=torch.contiguous_format)
    grad_weights = torch.empty_like(weights, memory_format=torch.contiguous_format)
    index = torch.empty(num_queries, num_samples, dtype=torch.int32, device=device)
    corner_weights = torch.empty(4, num_queries, num_samples, dtype=dtype, device=device)
    for n in range(num_images):
        table = value[n].to(dtype).reshape(num_tokens * num_heads, dim)
        bags = grad[n].to(dtype).reshape(num_queries * num_heads, dim)
        for rows in _chunks(num_queries, num_samples, device):
            samples, weight = grid.place(locations[n, rows]), weights[n, rows]
            index[rows] = samples.index
            for corner, part in zip(corner_weights, samples.corner_weights(weight)):
                corner[rows] = part
            chunk = bags[rows.start * num_heads : rows.stop * num_heads]
            dots = [row_dots(chunk, table, i.view(len(chunk), -1)).view_as(i) for i in samples.corner_rows()]
            grad_locations[n, rows], grad_weights[n, rows] = samples.gradients(weight, dots)
        grad_value[n] = _spread(bags, index, corner_weights, grid, len(table)).view(num_tokens, num_heads, dim)
    return grad_value, grad_locations, grad_weights


def row_dots(bags: torch.Tensor, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Dot products of each bag's row with the table's rows that it holds.

    Args:
        bags: (B, D) floating.
        table: (R, D) of the same type.
        index: (B, K) int32 rows of the table.

    Returns:
        (B, K).
    """
    num_bags, size = index.shape
    if bags.device.type == "cpu" and torch.backends.mkl.is_available() and index.numel():
        # The product of two matrices at a few places: a third of the time of the way below.
        ends = torch.arange(0, index.numel() + 1, size, dtype=torch.int32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            pattern = torch.sparse_csr_tensor(
                ends, index.reshape(-1), bags.new_zeros(index.numel()), (num_bags, len(table)), check_invariants=False
            )
        return torch.sparse.sampled_addmm(pattern, bags, table.T, beta=0).values().view(num_bags, size)
    starts = torch.arange(0, index.numel(), size, dtype=torch.int32, device=bags.device)
    owners = torch.arange(num_bags, dtype=torch.int32, device=bags.device).repeat_interleave(size)
    # The derivative of embedding_bag (whose mode 0 is "sum") by its weights.
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(bags, table, index.reshape(-1), starts, owners, 0)
    return dots.view(num_bags, size)


def _spread(
    bags: torch.Tensor, index: torch.Tensor, corner_weights: torch.Tensor, grid: CornerGrid, num_rows: int
) -> torch.Tensor:
    """The transposed sum: every table row collects weight * row of all bags (B, D) that hold it; (num_rows, D).

    No two samples add to one place at the same time, so the result is the same in every run.
    """
    if not index.numel():
        return bags.new_zeros(num_rows, bags.shape[1])
    index, order = index.view(-1).sort(stable=True)
    starts = torch.searchsorted(index, torch.arange(num_rows, dtype=index.dtype, device=index.device))
    owners = order // (len(order) // len(bags))  # samples of a bag stand together
    corners = [
        F.embedding_bag(owners, bags, starts, per_sample_weights=weight.view(-1)[order], mode="sum")
        for weight in corner_weights
    ]
    return grid.gather_corners(corners)


def _sum_type(*tensors: torch.Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def _chunks(num_queries: int, samples_per_query: int, device: torch.device) -> Iterator[slice]:
    """Ranges of queries that are worked on together."""
    size = num_queries
    if device.type == "cpu":
        size = max(1, CHUNK * torch.get_num_threads() // max(samples_per_query, 1))
    for start in range(0, num_queries, max(size, 1)):
        yield slice(start, min(start + size, num_queries))
