"""Cells of maps of several levels and frames in one row, and which of them are the nodes of a quadtree.

Grid order: level by level (coarse to fine), in a level frame by frame, in a frame row by row.

Shapes: N instances, T frames, L levels of size (h_l, w_l), G = sum of T h_l w_l cells, S nodes, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

Size = tuple[int, int]
FINEST_STRIDE = 2


class Quadtree(NamedTuple):
    """What the refiner found out about N instances in T frames.

    Attributes:
        masks: (N, T, h_L, w_L) corrected logits of the finest level, at stride 2.
        levels: L corrected logits (N, T, h_l, w_l), each what is known down to that level.
        incoherence: L logits (N, T, h_l, w_l) of "a mask of this level is too coarse here".
        nodes: L bool (N, T, h_l, w_l), cells that are nodes.
    """

    masks: torch.Tensor
    levels: list[torch.Tensor]
    incoherence: list[torch.Tensor]
    nodes: list[torch.Tensor]


def flatten_levels(levels: Sequence[torch.Tensor], first: int = 0) -> torch.Tensor:
    """L maps (..., T, h_l, w_l, ...) to one row of cells (..., G, ...); ``first`` is the axis of the frames."""
    return torch.cat([x.flatten(first, first + 2) for x in levels], dim=first)


def split_levels(row: torch.Tensor, sizes: Sequence[Size], num_frames: int) -> list[torch.Tensor]:
    """(N, G) to L maps (N, T, h_l, w_l)."""
    parts = row.split([num_frames * height * width for height, width in sizes], dim=1)
    return [part.unflatten(1, (num_frames, *size)) for part, size in zip(parts, sizes)]


def grid_places(sizes: Sequence[Size], num_frames: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Where all cells lie: (G, 3) float32 frame, row and column, rows and columns in cells of the finest level."""
    places = []
    for level, (height, width) in enumerate(sizes):
        cell = 2 ** (len(sizes) - 1 - level)
        frame = torch.arange(num_frames, device=device, dtype=torch.float32)
        row = (torch.arange(height, device=device) + 0.5) * cell
        column = (torch.arange(width, device=device) + 0.5) * cell
        places.append(torch.stack(torch.meshgrid(frame, row, column, indexing="ij"), dim=-1).flatten(0, 2))
    return torch.cat(places)


def place_code(places: torch.Tensor, dim: int) -> torch.Tensor:
    """Sines of places (G, 3): (G, dim), a quarter of the channels for the frame, the rest for row and column.

    The frequencies fall from one radian a cell (or frame) to one in a thousand. ``dim`` is a multiple of 8.
    """
    shares = (dim // 4, 3 * dim // 8, 3 * dim // 8)
    codes = []
    for axis, channels in enumerate(shares):
        frequencies = torch.logspace(0, -3, math.ceil(channels / 2), device=places.device)
        phases = places[:, axis, None] * frequencies
        codes.append(torch.cat([phases.sin(), phases.cos()], dim=1)[:, :channels])
    return torch.cat(codes, dim=1)


def children_of(cells: torch.Tensor, size: Size) -> torch.Tensor:
    """What four children on the next level, of ``size`` (2 h or 2 h - 1, likewise w), get from cells (N, T, h, w)."""
    return cells.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)[..., : size[0], : size[1]]


def grow_tree(incoherent: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """L bool maps (N, T, h_l, w_l) of incoherent cells without those whose parent is not in the tree."""
    tree = [incoherent[0]]
    for cells in incoherent[1:]:
        tree.append(cells & children_of(tree[-1], tuple(cells.shape[-2:])))
    return tree


def pick_nodes(
    tree: Sequence[torch.Tensor], incoherence: Sequence[torch.Tensor], max_nodes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells of every instance's tree, the ``max_nodes`` most incoherent ones if there are more.

    Args:
        tree: L bool maps (N, T, h_l, w_l).
        incoherence: L maps (N, T, h_l, w_l), the higher the more incoherent.
        max_nodes: of an instance.

    Returns:
        (N, S) int64 numbers of cells, and (N, S) bool, False where an instance has fewer nodes. S is at least 1.
    """
    cells = flatten_levels(tree, 1)  # (N, G)
    scores = flatten_levels(incoherence, 1).detach().float().masked_fill(~cells, -torch.inf)
    most = int(cells.sum(dim=1).max()) if len(cells) else 0
    index = scores.topk(min(max(most, 1), max_nodes), dim=1, sorted=False).indices
    return index, cells.gather(1, index)


def places_in_boxes(places: torch.Tensor, boxes: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Where nodes lie in their instance's box of their frame: (N, S, 2) row and column, -1 to 1 inside, at most +-4.

    Args:
        places: (G, 3) of :func:`grid_places`.
        boxes: (N, T, 4) as x1, y1, x2, y2, pixels of the image.
        index: (N, S) cells.
    """
    frame, row, column = places[index].unbind(dim=-1)  # (N, S)
    x1, y1, x2, y2 = boxes.gather(1, frame.long()[..., None].expand(-1, -1, 4)).unbind(dim=-1)
    down = (2 * FINEST_STRIDE * row - y1 - y2) / (y2 - y1).clamp(min=1)
    right = (2 * FINEST_STRIDE * column - x1 - x2) / (x2 - x1).clamp(min=1)
    return torch.stack([down, right], dim=-1).clamp(-4, 4)


def resize(masks: torch.Tensor, size: Size) -> torch.Tensor:
    """(N, T, h, w) to ``size``: bilinear when it grows, the mean over cells when it shrinks."""
    if tuple(masks.shape[-2:]) == size:
        return masks
    if size[0] < masks.shape[-2]:
        return F.interpolate(masks, size=size, mode="area")
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
