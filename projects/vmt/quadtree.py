"""The mask refiner of the paper as an option (MODEL.VMT.REFINER "quadtree"; Ke et al., ECCV 2022, arXiv 2207.14012).

A detector learns where a stride-8 mask is too coarse. Such cells are the roots of trees in space and time: an
incoherent cell has four children at stride 4, and each of these that is incoherent four at stride 2. All nodes of an
instance, of all levels and of all frames of a window, attend to each other, and each corrects the mask where it lies.
The idea is the paper's; how it is done is ours (see README.md), since no code of it was released.

Shapes: N instances, T frames, C channels, L = 3 levels of stride 8, 4, 2 and size (h_l, w_l), D width of a node,
E hidden channels of the detector, G cells of all levels and frames (see quadtree_grid.py), S nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from torch import nn
from torch.nn import functional as F

from projects.vmt.dynamic import double_size, resize_nearest
from projects.vmt.quadtree_grid import (
    Quadtree,
    children_of,
    flatten_levels,
    grid_places,
    grow_tree,
    pick_nodes,
    place_code,
    places_in_boxes,
    resize,
    split_levels,
)
from projects.vmt.quadtree_losses import quadtree_labels, quadtree_losses
from projects.vmt.refiner import RefineInputs, RefineOutput

NUM_LEVELS = 3


class QuadtreeRefiner(nn.Module):
    """Detects incoherent cells, lets their nodes attend to each other, corrects the mask there.

    Attributes:
        num_frames: frames of a clip that are refined together at test time.
        loss_names: of the losses that it has of its own.
    """

    loss_names = ("loss_incoherence", "loss_nodes")

    @configurable
    def __init__(
        self,
        *,
        map_dim: int = 64,
        query_dim: int = 256,
        dim: int = 64,
        detector_dim: int = 16,
        num_layers: int = 3,
        num_heads: int = 4,
        dim_feedforward: int = 256,
        threshold: float = 0.3,
        max_nodes: int = 4096,
        num_frames: int = 5,
    ) -> None:
        """
        Args:
            map_dim: C, of the frames' maps.
            query_dim: channels of an instance's query.
            dim: D, a multiple of 8 and of ``num_heads``.
            detector_dim: E.
            num_layers, num_heads, dim_feedforward: of the nodes' transformer.
            threshold: a cell is incoherent from this probability on.
            max_nodes: of an instance in the frames that are refined together; the most incoherent ones.
            num_frames: that are refined together at test time.
        """
        super().__init__()
        self.num_frames = num_frames
        self.threshold = threshold
        self.max_nodes = max_nodes
        self.lateral = nn.ModuleList(nn.Conv2d(map_dim, dim, 3, padding=1) for _ in range(NUM_LEVELS))
        self.detector = nn.ModuleList(
            IncoherenceDetector(dim, detector_dim, has_parent=level > 0) for level in range(NUM_LEVELS)
        )
        self.level_embed = nn.Parameter(torch.randn(NUM_LEVELS, dim) * 0.02)
        self.query_proj = nn.Linear(query_dim, dim)
        self.evidence_proj = nn.Linear(detector_dim + 4, dim)
        self.layers = nn.ModuleList(NodeLayer(dim, num_heads, dim_feedforward) for _ in range(num_layers))
        self.correct = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))
        nn.init.zeros_(self.correct[-1].weight)  # at first nothing is corrected
        nn.init.zeros_(self.correct[-1].bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT
        return {
            "map_dim": node.REFINE_DIM,
            "query_dim": node.HIDDEN_DIM,
            "dim": node.QUADTREE.DIM,
            "detector_dim": node.QUADTREE.DETECTOR_DIM,
            "num_layers": node.QUADTREE.LAYERS,
            "num_heads": node.QUADTREE.NHEADS,
            "dim_feedforward": node.QUADTREE.DIM_FEEDFORWARD,
            "threshold": node.QUADTREE.THRESHOLD,
            "max_nodes": node.QUADTREE.MAX_NODES,
            "num_frames": node.QUADTREE.WINDOW,
        }

    def forward(self, inputs: RefineInputs, labels: torch.Tensor | None = None) -> RefineOutput:
        """Masks at full resolution; with true masks ``labels`` (N, T, 2 h2, 2 w2) bool also the losses of
        :func:`projects.vmt.quadtree_losses.quadtree_losses`."""
        size = tuple(inputs.detail.shape[-2:])
        base = inputs.maps.base
        half = tuple(-(-side // 2) for side in base.shape[-2:])
        features = [resize(base, half), base, resize_nearest(base, size) + inputs.detail]
        second = inputs.second.transpose(0, 1)  # (N, T, h_1, w_1)
        boxes = inputs.boxes.transpose(0, 1)
        if labels is None:
            tree = self.correct_masks(features, second, inputs.queries, boxes)
            losses = {}
        else:
            cells = quadtree_labels(labels, second, [tuple(x.shape[-2:]) for x in features])
            tree = self.correct_masks(features, second, inputs.queries, boxes, cells)
            losses = quadtree_losses(tree, labels, cells)
        return RefineOutput(double_size(tree.masks.transpose(0, 1)), tree.nodes[-1].any(dim=0), losses)

    def correct_masks(
        self,
        features: Sequence[torch.Tensor],
        logits: torch.Tensor,
        queries: torch.Tensor,
        boxes: torch.Tensor,
        known: Sequence[torch.Tensor] | None = None,
    ) -> Quadtree:
        """The trees of N instances in T frames.

        Args:
            features: L maps (T, C, h_l, w_l).
            logits: (N, T, h_1, w_1) of the second stage, at stride 4.
            queries: (N, query_dim).
            boxes: (N, T, 4) as x1, y1, x2, y2, pixels of the image.
            known: in training, L bool (N, T, h_l, w_l), cells that are incoherent. They become nodes even if the
                detector does not find them yet.
        """
        sizes = [tuple(x.shape[-2:]) for x in features]
        num_frames = logits.shape[1]
        base = [resize(logits.float(), size) for size in sizes]
        grids = [F.relu(conv(x)) for conv, x in zip(self.lateral, features)]  # (T, D, h_l, w_l)
        incoherence, hidden = self._detect(grids, base)  # (N, T, h_l, w_l), (N, T, E, h_l, w_l)
        index, valid = pick_nodes(self._tree(incoherence, known), incoherence, self.max_nodes)  # (N, S)

        places = grid_places(sizes, num_frames, logits.device)  # (G, 3)
        codes = place_code(places, self.level_embed.shape[1]) + self._level_codes(sizes, num_frames)
        numbers = [
            flatten_levels(base, 1).gather(1, index).clamp(-8, 8)[..., None] / 8,
            flatten_levels(incoherence, 1).gather(1, index).float().sigmoid()[..., None],
            places_in_boxes(places, boxes.float(), index),
        ]  # (N, S, 1), (N, S, 1), (N, S, 2)
        seen = flatten_levels([x.movedim(2, -1) for x in hidden], 1)  # (N, G, E)
        seen = seen.gather(1, index[..., None].expand(-1, -1, seen.shape[-1]))
        nodes = flatten_levels([x.movedim(1, -1) for x in grids])[index] + self.query_proj(queries)[:, None]
        nodes = nodes + self.evidence_proj(torch.cat([*numbers, seen.float()], dim=-1))
        for layer in self.layers:
            nodes = layer(nodes, codes[index], valid)  # (N, S, D)
        changes = self.correct(nodes)[..., 0].float() * valid
        return self._write_back(base, changes, incoherence, index, valid, sizes)

    def _detect(self, grids, base) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Incoherence and the detector's hidden maps, from coarse to fine."""
        incoherence, hidden, parent = [], [], None
        for detector, grid, logits in zip(self.detector, grids, base):
            found, features = detector(grid, logits, parent)
            incoherence.append(found)
            hidden.append(features)
            parent = found
        return incoherence, hidden

    def _tree(self, incoherence, known) -> list[torch.Tensor]:
        """L bool maps of the cells that are nodes."""
        found = [x.detach().sigmoid() > self.threshold for x in incoherence]
        if known is not None:
            found = [a | b for a, b in zip(found, known)]
        return grow_tree(found)

    def _level_codes(self, sizes, num_frames) -> torch.Tensor:
        """(G, D)."""
        cells = torch.tensor([num_frames * height * width for height, width in sizes], device=self.level_embed.device)
        return self.level_embed.repeat_interleave(cells, dim=0)

    def _write_back(self, base, changes, incoherence, index, valid, sizes) -> Quadtree:
        """Corrections go from every node to its descendants: what is wrong at stride 8 is wrong below, too."""
        num_frames = base[0].shape[1]
        num_cells = sum(num_frames * height * width for height, width in sizes)
        row = changes.new_zeros(len(changes), num_cells).scatter_add(1, index, changes)
        kept = torch.zeros_like(row, dtype=torch.bool).scatter(1, index, valid)
        levels, total = [], None
        for own, masks in zip(split_levels(row, sizes, num_frames), base):
            total = own if total is None else own + children_of(total, tuple(own.shape[-2:]))
            levels.append(masks + total)
        return Quadtree(levels[-1], levels, incoherence, split_levels(kept, sizes, num_frames))


class IncoherenceDetector(nn.Module):
    """Two convolutions on what a level shows, the instance's mask, and what the level above found."""

    def __init__(self, dim: int, hidden_dim: int, has_parent: bool) -> None:
        super().__init__()
        # One convolution of both, by linearity: the frames' part is the same for all instances.
        self.of_frames = nn.Conv2d(dim, hidden_dim, 3, padding=1)
        self.of_masks = nn.Conv2d(1 + has_parent, hidden_dim, 3, padding=1, bias=False)
        self.score = nn.Conv2d(hidden_dim, 1, 1)

    def forward(
        self, grid: torch.Tensor, logits: torch.Tensor, parent: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            grid: (T, D, h, w).
            logits: (N, T, h, w) of the masks.
            parent: (N, T, h', w') incoherence of the coarser level, if there is one.

        Returns:
            Incoherence logits (N, T, h, w) and hidden maps (N, T, E, h, w).
        """
        cues = [logits.sigmoid()]
        if parent is not None:
            cues.append(resize(parent.float().sigmoid(), tuple(logits.shape[-2:])))
        cues = torch.stack(cues, dim=2)  # (N, T, 1 or 2, h, w)
        own = self.of_masks(cues.flatten(0, 1)).unflatten(0, cues.shape[:2])
        hidden = F.relu(own + self.of_frames(grid))
        return self.score(hidden.flatten(0, 1)).unflatten(0, cues.shape[:2])[:, :, 0], hidden


class NodeLayer(nn.Module):
    """Attention among the nodes of an instance and a feed-forward network, each after a layer norm."""

    def __init__(self, dim: int, num_heads: int, dim_feedforward: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.query_key = nn.Linear(dim, 2 * dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(nn.Linear(dim, dim_feedforward), nn.ReLU(), nn.Linear(dim_feedforward, dim))

    def forward(self, nodes: torch.Tensor, codes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """
        Args:
            nodes: (N, S, D).
            codes: (N, S, D) of place and level, added to queries and keys.
            valid: (N, S) bool, nodes that others may look at.
        """
        x = self.norm1(nodes)
        heads = [
            y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for y in (*self.query_key(x + codes).chunk(2, dim=-1), self.value(x))
        ]  # (N, heads, S, D / heads)
        # An instance without any node looks at its one placeholder, whose result nobody reads.
        visible = valid | ~valid.any(dim=1, keepdim=True)
        found = F.scaled_dot_product_attention(*heads, attn_mask=visible[:, None, None])
        nodes = nodes + self.out(found.transpose(1, 2).flatten(2))
        return nodes + self.feedforward(self.norm2(nodes))
