"""Propagation that looks for an object only near where it was: faster, with slightly other numbers.

What is cut out of a frame's maps is padded with zeros by the convolutions, so that an object's surroundings should lie
within the margin.

Shapes: N objects, S = g * v positions of the memory's grid (cells of 16 pixels), D and E of keys and values, (h, w) of
p2, (H, W) the padded image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from projects.seq_mask_rcnn.propagation import PropagationHead, as_entry

CELL = 16  # pixels
# How far a mask's pixel reaches in the memory: half the sum of all kernels on the way, pixels.
MEMORY_REACH = 48


@dataclass(frozen=True)
class Window:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` (exclusive) of the memory's grid."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, x: torch.Tensor, per_cell: int = 1) -> torch.Tensor:
        """The window of a map (..., rows, columns) with so many values along a cell."""
        rows = slice(self.top * per_cell, self.bottom * per_cell)
        return x[..., rows, self.left * per_cell : self.right * per_cell]


def windows_around(boxes: torch.Tensor, present: torch.Tensor, margin: int, grid: tuple[int, int]) -> list[Window]:
    """Windows ``margin`` pixels around boxes (N, 4), x1 y1 x2 y2; all of ``grid`` (g, v) where none is ``present``."""
    low = ((boxes[:, :2] - margin) / CELL).floor().clamp(min=0).int()
    high = ((boxes[:, 2:] + margin) / CELL).ceil().int()
    rows = torch.cat([low, high, present[:, None].int()], dim=1).tolist()
    return [
        Window(top, min(bottom, grid[0]), left, min(right, grid[1])) if seen else Window(0, grid[0], 0, grid[1])
        for left, top, right, bottom, seen in rows
    ]


def decode_near(
    head: PropagationHead,
    read: Callable[[int, torch.Tensor], torch.Tensor],
    query: tuple[torch.Tensor, torch.Tensor],
    skips: tuple[torch.Tensor, torch.Tensor],
    windows: list[Window],
) -> torch.Tensor:
    """Each object's probability on its own, (N, H, W) float32, 0 outside its window.

    Args:
        read: what object n's memory says to a query key (1, D, g', v'), as (1, E, g', v').
        query, skips: of the frame; see :class:`PropagationHead`.
    """
    query_key, query_value = query
    height, width = (CELL * side for side in query_key.shape[-2:])
    out = torch.zeros(len(windows), height, width, device=query_key.device)
    for n, window in enumerate(windows):
        found = read(n, window.cut(query_key))
        near = window.cut(skips[0], 4), window.cut(skips[1], 2)
        window.cut(out[n], CELL)[:] = head.decode(found, window.cut(query_value), near)[0]
    return out


def memorise_near(
    head: PropagationHead,
    p2: torch.Tensor,
    nothing: tuple[torch.Tensor, torch.Tensor],
    masks: torch.Tensor,
    windows: list[Window],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Entries (N, 1, S, D) and (N, 1, S, E) of masks (N, H, W) that are empty outside their windows.

    Args:
        p2: (1, C, h, w).
        nothing: keys (1, D, g, v) and values (1, E, g, v) of the frame with an empty mask.
        windows: those of the masks, larger by :data:`MEMORY_REACH`.
    """
    keys, values = (x.repeat(len(masks), 1, 1, 1) for x in nothing)
    for n, window in enumerate(windows):
        own = head.memorise(window.cut(p2, 4), window.cut(masks[n], CELL)[None])
        window.cut(keys[n])[:], window.cut(values[n])[:] = own[0][0], own[1][0]
    return as_entry(keys), as_entry(values)
