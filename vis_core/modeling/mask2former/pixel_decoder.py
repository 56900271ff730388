"""The pixel decoder of Mask2Former: a deformable encoder over three feature maps, and one finer map for the masks.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022, arXiv 2112.01527.

Shapes: B images, C channels, S tokens of all levels together, L levels from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.deformable_attention import grid_points
from vis_core.modeling.deformable_encoder_layer import DeformableEncoderLayer
from vis_core.modeling.mask2former.positional_encoding import sine_positional_encoding


class DeformableEncoder(nn.Module):
    """Layers over the tokens of L maps, each map with a learned encoding of its own."""

    def __init__(
        self, dim: int, dim_feedforward: int, num_layers: int, num_levels: int, num_heads: int, num_points: int
    ) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(num_levels, dim))
        layers = [
            DeformableEncoderLayer(dim, dim_feedforward, num_levels, num_heads, num_points) for _ in range(num_layers)
        ]
        # A level of names more, for the published weights.
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """L maps (B, C, h, w) to L maps of the same sizes."""
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        device, dim = maps[0].device, maps[0].shape[1]
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)  # (B, S, C)
        encodings = [
            sine_positional_encoding(h, w, dim, device).flatten(1).T + level
            for (h, w), level in zip(shapes, self.level_embed)
        ]
        positions = torch.cat(encodings)[None]  # (1, S, C)
        references = grid_points(shapes, device)[None, :, None]  # (1, S, 1, 2), the same on all levels
        for layer in self.encoder["layers"]:
            tokens = layer(tokens, positions, references, shapes)
        levels = tokens.split([h * w for h, w in shapes], dim=1)
        # As channels_last, also by their strides: of a single image PyTorch tells by these which kernel suits.
        return [x.unflatten(1, shape).permute(0, 3, 1, 2) for x, shape in zip(levels, shapes)]


class MSDeformAttnPixelDecoder(nn.Module):
    """Maps of a backbone to maps for the query decoder. Always computes in float32."""

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        dim_feedforward: int = 1024,
    ) -> None:
        """
        Args:
            input_shape: the backbone's maps that are used. The finest only joins the map for the masks; the others go
                through the encoder.
            dim: C, a multiple of 32.
            num_layers: of the encoder.
        """
        super().__init__()
        from_fine = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.finest, self.in_features = from_fine[0], from_fine[:0:-1]  # the encoder's: coarse to fine
        projections = [
            nn.Sequential(nn.Conv2d(input_shape[name].channels, dim, kernel_size=1), nn.GroupNorm(32, dim))
            for name in self.in_features
        ]
        for projection in projections:
            nn.init.xavier_uniform_(projection[0].weight)
            nn.init.zeros_(projection[0].bias)
        self.input_proj = nn.ModuleList(projections)
        self.transformer = DeformableEncoder(
            dim, dim_feedforward, num_layers, len(self.in_features), num_heads, num_points
        )
        self.mask_features = Conv2d(dim, dim, kernel_size=1)
        norm = [get_norm("GN", dim) for _ in range(2)]
        self.adapter_1 = Conv2d(input_shape[self.finest].channels, dim, kernel_size=1, bias=False, norm=norm[0])
        self.layer_1 = Conv2d(dim, dim, kernel_size=3, padding=1, bias=False, norm=norm[1], activation=F.relu_)
        for layer in (self.mask_features, self.adapter_1, self.layer_1):
            c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in node.IN_FEATURES},
            "dim": cfg.MODEL.MASK_FORMER.HIDDEN_DIM,
            "num_layers": node.TRANSFORMER_ENC_LAYERS,
            "num_heads": cfg.MODEL.MASK_FORMER.NHEADS,
            "num_points": node.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS,
            "dim_feedforward": node.TRANSFORMER_ENC_DIM_FEEDFORWARD,
        }

    def forward(self, features: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The backbone's maps to the map (B, C, h, w) for the masks, at the finest input's size, and L encoded maps
        from coarse to fine.
        """
        with torch.autocast(features[self.finest].device.type, enabled=False):
            maps = [project(features[name].float()) for name, project in zip(self.in_features, self.input_proj)]
            maps = self.transformer(maps)
            lateral = self.adapter_1(features[self.finest].float())
            upsampled = F.interpolate(maps[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            return self.mask_features(self.layer_1(lateral + upsampled)), maps
