"""Decoder of the clip transformer (SeqFormer, Wu et al., ECCV 2022, arXiv 2112.08275).

Every query is one object through the clip. It finds the object in each frame by itself (box queries), and a weighted
mean over the frames of what was seen there describes the object (video queries).

Shapes: B clips, T frames, Q queries, S tokens of a frame, C channels, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.attention import MLP, Attention
from vis_core.modeling.deformable_attention import MSDeformAttn

EPSILON = 1e-5


class FrameTokens(NamedTuple):
    """What the encoder knows of B * T frames.

    Attributes:
        tokens: chunks (n, S, C), which together are the frames of all clips in order. Frames that come one by one are
            never copied together.
        shapes: (height, width) of the L levels.
        padding: (B * T, S) bool, or None.
        valid_ratios: (B, L, 2) of each clip's first frame, or None without padding.
    """

    tokens: Sequence[torch.Tensor]
    shapes: Sequence[tuple[int, int]]
    padding: torch.Tensor | None = None
    valid_ratios: torch.Tensor | None = None


class DecoderLayerOutput(NamedTuple):
    """What is known after one layer.

    Attributes:
        queries: (B, Q, C) video queries.
        box_queries: (B, T, Q, C).
        references: (B, T, Q, 2 or 4) that the layer began with; x, y (and width, height), shares. Layer 0's have a
            gradient, as they are learned; those of later layers are the boxes before, without gradient.
        boxes: (B, T, Q, 4) that it ended with: centre x, y, width, height, shares of the frame.
    """

    queries: torch.Tensor
    box_queries: torch.Tensor
    references: torch.Tensor
    boxes: torch.Tensor


class ClipDeformAttn(MSDeformAttn):
    """One sampling, two projections of what it found: ``output_proj`` for videos, ``output_proj_box`` for frames."""

    def __init__(self, dim: int, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__(dim, num_levels, num_heads, num_points)
        self.output_proj_box = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.output_proj_box.weight)
        nn.init.zeros_(self.output_proj_box.bias)


class ClipDecoderLayer(nn.Module):
    """Self-attention, deformable attention to the frames, feed-forward; of box queries first, then of video queries."""

    def __init__(
        self, dim: int, dim_feedforward: int, num_heads: int, num_levels: int, num_points: int, dropout: float
    ) -> None:
        super().__init__()
        self.cross_attn = ClipDeformAttn(dim, num_levels, num_heads, num_points)
        for end in ("", "_box"):
            self.add_module(f"self_attn{end}", Attention(dim, num_heads, dropout))
            self.add_module(f"linear1{end}", nn.Linear(dim, dim_feedforward))
            self.add_module(f"linear2{end}", nn.Linear(dim_feedforward, dim))
            for number in (1, 2, 3):  # after cross-attention, self-attention and feed-forward network
                self.add_module(f"norm{number}{end}", nn.LayerNorm(dim))
            nn.init.xavier_uniform_(self.get_submodule(f"linear1{end}").weight)
            nn.init.xavier_uniform_(self.get_submodule(f"linear2{end}").weight)
        self.time_attention_weights = nn.Linear(dim, 1)
        nn.init.xavier_uniform_(self.time_attention_weights.weight)
        nn.init.zeros_(self.time_attention_weights.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        box_queries: torch.Tensor,
        positions: torch.Tensor,
        references: torch.Tensor,
        frames: FrameTokens,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            queries: (B, Q, C).
            box_queries: (B, T, Q, C).
            positions: (Q, C), added to what chooses where to look.
            references: (B, T, Q, 2 or 4).
            frames: tokens to look at.

        Returns:
            Queries and box queries, of the same shapes.
        """
        drop = self.dropout
        placed = queries + positions
        queries = self.norm2(queries + drop(self.self_attn(placed, placed, queries)))
        boxes = box_queries.flatten(0, 1)  # (B * T, Q, C)
        placed = boxes + positions
        boxes = self.norm2_box(boxes + drop(self.self_attn_box(placed, placed, boxes)))

        seen = self._look(boxes + positions, references, frames)  # (B * T, Q, C)
        boxes = self.norm1_box(boxes + drop(self.cross_attn.output_proj_box(seen)))
        hidden = drop(F.relu_(self.linear1_box(boxes)))
        boxes = self.norm3_box(boxes + drop(self.linear2_box(hidden)))

        box_queries = boxes.view(box_queries.shape)
        weights = self.time_attention_weights(box_queries).softmax(dim=1)  # (B, T, Q, 1)
        mean = (weights * self.cross_attn.output_proj(seen).view(box_queries.shape)).sum(dim=1)
        queries = self.norm1(queries + drop(mean))
        hidden = drop(F.relu_(self.linear1(queries)))
        return self.norm3(queries + drop(self.linear2(hidden))), box_queries

    def _look(self, queries: torch.Tensor, references: torch.Tensor, frames: FrameTokens) -> torch.Tensor:
        """What (B * T, Q, C) box queries find, chunk of frames by chunk; references (B, T, Q, 2 or 4)."""
        references = references[:, :, :, None]  # (B, T, Q, 1, 2 or 4)
        if frames.valid_ratios is not None:
            ratios = frames.valid_ratios.repeat(1, 1, references.shape[-1] // 2)  # (B, L, 2 or 4)
            references = references * ratios[:, None, None]
        references = references.flatten(0, 1)
        found, start = [], 0
        for tokens in frames.tokens:
            part = slice(start, start + len(tokens))
            padding = None if frames.padding is None else frames.padding[part]
            found.append(self.cross_attn.sample(queries[part], references[part], tokens, frames.shapes, padding))
            start = part.stop
        return torch.cat(found)


class ClipDecoder(nn.Module):
    """Layers, and a box head after each that moves the reference boxes."""

    def __init__(self, num_layers: int, **layer) -> None:
        """
        Args:
            num_layers: number of layers.
            layer: arguments of :class:`ClipDecoderLayer`.
        """
        super().__init__()
        self.layers = nn.ModuleList(ClipDecoderLayer(**layer) for _ in range(num_layers))
        dim = layer["dim"]
        self.bbox_embed = nn.ModuleList(MLP(dim, dim, 4, 3) for _ in range(num_layers))
        for index, head in enumerate(self.bbox_embed):  # at first boxes stay where the references are, rather small
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)
            if index == 0:
                nn.init.constant_(head.layers[-1].bias[2:], -2.0)

    def forward(
        self, queries: torch.Tensor, positions: torch.Tensor, references: torch.Tensor, frames: FrameTokens
    ) -> list[DecoderLayerOutput]:
        """
        Args:
            queries: (B, Q, C), what every query begins with in every frame.
            positions: (Q, C).
            references: (B, T, Q, 2 or 4), shares of the frame.
            frames: tokens to look at.

        Returns:
            What is known after every layer.
        """
        num_frames = references.shape[1]
        box_queries = queries[:, None].expand(-1, num_frames, -1, -1)
        outputs = []
        for layer, head in zip(self.layers, self.bbox_embed):
            queries, box_queries = layer(queries, box_queries, positions, references, frames)
            boxes = move_boxes(head(box_queries), references)
            outputs.append(DecoderLayerOutput(queries, box_queries, references, boxes))
            references = boxes.detach()
        return outputs


def move_boxes(deltas: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 4) from references (..., 2 or 4) and logits' changes (..., 4); in float32."""
    start = inverse_sigmoid(references)
    start = F.pad(start, (0, 4 - start.shape[-1]))  # a point's width and height are the head's own
    return (deltas.float() + start).sigmoid()


def inverse_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Logits of probabilities, which are clamped 1e-5 away from 0 and 1."""
    x = x.clamp(0, 1)
    return (x.clamp(min=EPSILON) / (1 - x).clamp(min=EPSILON)).log()
