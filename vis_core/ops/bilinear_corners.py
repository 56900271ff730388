"""Where bilinear samples lie in a table of pixels, and how much each of their four corners counts.

A corner outside its map needs no mask: the upper left corner is moved inside, and a corner's share along an axis is
``max(0, 1 - |coordinate - corner|)``, which is 0 for a corner that is not next to the sample.

Shapes: Q queries, M heads, L levels, P points, K = M * L * P samples of a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


class CornerGrid:
    """The maps of L levels as one table with a row for every token and head: row = token * M + head.

    Args:
        shapes: (height, width) of the levels.
        sample_shape: (M, L, P).
        dtype: of coordinates and weights.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], sample_shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        num_heads, num_levels, num_points = sample_shape
        self.shapes = shapes
        self.num_heads = num_heads
        self.starts = [0]
        for height, width in shapes:
            self.starts.append(self.starts[-1] + height * width)

        def per_sample(numbers, dtype):
            vector = torch.tensor(numbers, dtype=dtype, device=device).view(1, -1, 1)
            return vector.expand(num_heads, num_levels, num_points).reshape(-1)  # (K,)

        heights, widths = zip(*shapes)
        self.width = per_sample(widths, dtype)
        self.height = per_sample(heights, dtype)
        self.last_left = per_sample([max(w - 2, 0) for w in widths], dtype)
        self.last_top = per_sample([max(h - 2, 0) for h in heights], dtype)
        # Rows of the table from a pixel to the one below, and from an upper left corner to its neighbours; there
        # are none in a map of a single column or line.
        self.line = per_sample([w * num_heads for w in widths], torch.int32)
        self.right = per_sample([num_heads if w > 1 else 0 for w in widths], torch.int32)
        self.below = per_sample([w * num_heads if h > 1 else 0 for h, w in shapes], torch.int32)
        heads = torch.arange(num_heads, dtype=torch.int32, device=device).repeat_interleave(num_levels * num_points)
        self.first = per_sample([start * num_heads for start in self.starts[:-1]], torch.int32) + heads

    def place(self, locations: torch.Tensor) -> Samples:
        """Samples at (Q, M, L, P, 2) locations in [0, 1] (outside: beyond the map), as (x, y)."""
        xy = locations.reshape(len(locations), -1, 2)  # (Q, K, 2)
        x = torch.mul(xy[..., 0], self.width).sub_(0.5)
        y = torch.mul(xy[..., 1], self.height).sub_(0.5)
        # What is not a number must not become an address; it stays in x and y.
        left = torch.minimum(x.floor().clamp_(min=0), self.last_left).nan_to_num_(0)
        top = torch.minimum(y.floor().clamp_(min=0), self.last_top).nan_to_num_(0)
        index = top.int().mul_(self.line).add_(left.int().mul_(self.num_heads)).add_(self.first)
        return Samples(self, index, x.sub_(left), y.sub_(top))

    def gather_corners(self, corners: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum of what belongs to each pixel, from what was collected at upper left corners.

        Args:
            corners: 4 x (rows of the table, D), for upper left, upper right, lower left, lower right.

        Returns:
            (rows of the table, D); the first of ``corners``, changed.
        """
        total, *others = corners
        for (height, width), start, end in zip(self.shapes, self.starts, self.starts[1:]):
            right, below = self.num_heads * (width > 1), self.num_heads * width * (height > 1)
            for corner, step in zip(others, (right, below, right + below)):
                total[start * self.num_heads + step : end * self.num_heads] += corner[
                    start * self.num_heads : end * self.num_heads - step
                ]
        return total


@dataclass(frozen=True)
class Samples:
    """Bilinear samples; all tensors (Q, K).

    Attributes:
        index: int32 row of the table of each sample's upper left corner.
        x, y: coordinates from that corner, in pixels; in [0, 1] for a sample between four pixels.
    """

    grid: CornerGrid
    index: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    def corner_rows(self) -> Iterator[torch.Tensor]:
        """Table rows of the upper left, upper right, lower left and lower right corners."""
        lower = self.index + self.grid.below
        yield from (self.index, self.index + self.grid.right, lower, lower + self.grid.right)

    def corner_weights(self, weights: torch.Tensor) -> Iterator[torch.Tensor]:
        """The corners' shares, in the order of :meth:`corner_rows`, times the samples' weights (Q, M, L, P)."""
        weights = weights.reshape(self.index.shape)
        x0, x1 = _shares(self.x, self.grid.right)
        y0, y1 = _shares(self.y, self.grid.below)
        y0, y1 = y0.mul_(weights), y1.mul_(weights)
        yield from (x0 * y0, x1 * y0, x0.mul_(y1), x1.mul_(y1))

    def gradients(self, weights: torch.Tensor, dots: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of locations (Q, M, L, P, 2) and weights (Q, M, L, P).

        Args:
            weights: (Q, M, L, P).
            dots: 4 x (Q, K), dot products of the output's gradient with the pixels at the corners.
        """
        shape, weights = weights.shape, weights.reshape(self.index.shape)
        upper_left, upper_right, lower_left, lower_right = dots
        x0, x1 = _shares(self.x, self.grid.right)
        y0, y1 = _shares(self.y, self.grid.below)
        slope_x0, slope_x1 = _slopes(self.x, self.grid.right)
        slope_y0, slope_y1 = _slopes(self.y, self.grid.below)
        upper, lower = x0 * upper_left + x1 * upper_right, x0 * lower_left + x1 * lower_right
        left, right = y0 * upper_left + y1 * lower_left, y0 * upper_right + y1 * lower_right
        grad_x = (slope_x0 * left + slope_x1 * right) * weights * self.grid.width
        grad_y = (slope_y0 * upper + slope_y1 * lower) * weights * self.grid.height
        return torch.stack([grad_x, grad_y], dim=-1).view(*shape, 2), (y0 * upper + y1 * lower).view(shape)


def _shares(offset: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the pixel at 0 and of the pixel at 1, which does not exist where ``step`` is 0."""
    near = (1 - offset.abs()).clamp_(min=0)
    far = (1 - (offset - 1).abs_()).clamp_(min=0)
    return near, far.mul_(step > 0)


def _slopes(offset: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of :func:`_shares`; towards greater ``offset`` where there are two."""
    between = ((offset >= 0) & (offset < 1)).to(offset.dtype)
    near = ((offset > -1) & (offset < 0)).to(offset.dtype) - between
    far = between - ((offset >= 1) & (offset < 2)).to(offset.dtype)
    return near, far.mul_(step > 0)
