"""SeqFormer's detector without its backbone: frames' feature maps to objects of the clip.

Shapes: B clips, T frames, N = B * T, Q queries, S tokens of a frame, C channels, K logits, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.clip_transformer.decoder import ClipDecoder, DecoderLayerOutput, FrameTokens
from vis_core.modeling.clip_transformer.encoder import ClipEncoder, valid_ratios
from vis_core.modeling.clip_transformer.positional_encoding import (
    centred_positional_encoding,
    unpadded_positional_encoding,
)

NORM_GROUPS = 32
PRIOR_PROBABILITY = 0.01  # of each class at first


class ClipTransformer(nn.Module):
    """Input projections, encoder, decoder, and the class and box heads of every decoder layer."""

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        num_logits: int,
        num_queries: int = 300,
        dim: int = 256,
        num_heads: int = 8,
        dim_feedforward: int = 1024,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            in_channels: of the backbone's maps, finest first.
            num_logits: K.
            num_queries: Q.
            dim: C.
            num_heads, num_points: of deformable attention.
            dim_feedforward: of the feed-forward networks.
            num_encoder_layers, num_decoder_layers: numbers of layers.
            num_levels: L; beyond the backbone's maps each is half the size of the one before.
            dropout: probability.
        """
        super().__init__()
        layer = {
            "dim": dim,
            "dim_feedforward": dim_feedforward,
            "num_heads": num_heads,
            "num_levels": num_levels,
            "num_points": num_points,
            "dropout": dropout,
        }
        self.input_proj = nn.ModuleList(_projection(nn.Conv2d(channels, dim, 1)) for channels in in_channels)
        channels = in_channels[-1]
        for _ in range(num_levels - len(in_channels)):
            self.input_proj.append(_projection(nn.Conv2d(channels, dim, 3, stride=2, padding=1)))
            channels = dim
        self.level_embed = nn.Parameter(torch.randn(num_levels, dim))
        self.encoder = ClipEncoder(num_encoder_layers, **layer)
        self.query_embed = nn.Embedding(num_queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        self.decoder = ClipDecoder(num_decoder_layers, **layer)
        self.class_embed = nn.ModuleList(nn.Linear(dim, num_logits) for _ in range(num_decoder_layers))
        for head in self.class_embed:
            nn.init.constant_(head.bias, -math.log(1 / PRIOR_PROBABILITY - 1))

    def encode(
        self, maps: Sequence[torch.Tensor], padding: torch.Tensor | None = None, num_frames: int = 1
    ) -> FrameTokens:
        """Tokens of N frames, in one chunk.

        Args:
            maps: (N, channels, h, w) of the backbone, finest first.
            padding: (N, H, W) bool of the images, True where they are padded.
            num_frames: T; with padding, the first frame of a clip says how much of all its frames is padding.
        """
        sources = [projection(x) for projection, x in zip(self.input_proj, maps)]
        last = maps[-1]
        for projection in self.input_proj[len(maps) :]:
            last = projection(last)
            sources.append(last)
        shapes = [tuple(x.shape[-2:]) for x in sources]
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in sources], dim=1)  # (N, S, C)
        if padding is None:
            encodings = [unpadded_positional_encoding(*shape, tokens.shape[2], tokens.device)[None] for shape in shapes]
            hidden = ratios = None
        else:
            paddings = [F.interpolate(padding[:, None].float(), size=shape)[:, 0].bool() for shape in shapes]
            encodings = [centred_positional_encoding(level, tokens.shape[2]) for level in paddings]
            hidden = torch.cat([level.flatten(1) for level in paddings], dim=1)  # (N, S)
            ratios = valid_ratios([level[::num_frames] for level in paddings])  # (B, L, 2)
        positions = torch.cat(
            [encoding.flatten(2).transpose(1, 2) + own for encoding, own in zip(encodings, self.level_embed)], dim=1
        )
        frame_ratios = None if ratios is None else ratios.repeat_interleave(num_frames, dim=0)
        tokens = self.encoder(tokens, positions, shapes, hidden, frame_ratios)
        return FrameTokens([tokens], shapes, hidden, ratios)

    def decode(self, frames: FrameTokens, num_frames: int) -> list[DecoderLayerOutput]:
        """Objects of B clips of T = ``num_frames`` frames each, after every layer."""
        positions, start = self.query_embed.weight.chunk(2, dim=1)  # (Q, C) each
        num_clips = sum(len(chunk) for chunk in frames.tokens) // num_frames
        references = self.reference_points(positions).float().sigmoid()
        references = references.expand(num_clips, num_frames, -1, -1)
        return self.decoder(start.expand(num_clips, -1, -1), positions, references, frames)

    def logits(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """Class logits (B, Q, K) of one layer's video queries (B, Q, C)."""
        return self.class_embed[layer](queries)


def level_map(frames: FrameTokens, level: int) -> torch.Tensor:
    """One level of tokens that are in one chunk, as a map (N, C, h, w)."""
    (tokens,) = frames.tokens
    sizes = [height * width for height, width in frames.shapes]
    part = tokens.split(sizes, dim=1)[level]
    return part.transpose(1, 2).unflatten(2, frames.shapes[level])


def _projection(conv: nn.Conv2d) -> nn.Sequential:
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(NORM_GROUPS, conv.out_channels))
