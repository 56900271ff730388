"""Mask2Former's query decoder with an embedding of every query, by which tracking compares objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn

from vis_core.modeling.attention import MLP
from vis_core.modeling.mask2former import QUERY_DECODER_REGISTRY, MultiScaleMaskedTransformerDecoder


@QUERY_DECODER_REGISTRY.register()
class CTVISQueryDecoder(MultiScaleMaskedTransformerDecoder):
    """Adds ``reid_embed`` behind the last layer."""

    @configurable
    def __init__(self, *, reid_layers: int = 3, reid_dim: int = 256, dim: int = 256, **kwargs) -> None:
        """
        Args:
            reid_layers: of the embedding's MLP; 0 takes the normalised query as it is.
            reid_dim: width of its layers and of the embedding.
            dim, kwargs: of :class:`MultiScaleMaskedTransformerDecoder`.
        """
        super().__init__(dim=dim, **kwargs)
        self.reid_embed = MLP(dim, reid_dim, reid_dim, reid_layers) if reid_layers else nn.Identity()
        for layer in self.reid_embed.modules():
            if isinstance(layer, nn.Linear):
                c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.CTVIS
        return {**super().from_config(cfg), "reid_layers": node.REID_LAYERS, "reid_dim": node.REID_DIM}

    def forward(self, maps: Sequence[torch.Tensor], mask_features: torch.Tensor, with_aux: bool | None = None) -> dict:
        """As the base class, with ``pred_embeds`` (B, Q, reid_dim), not normalised."""
        outputs = super().forward(maps, mask_features, with_aux)
        outputs["pred_embeds"] = self.reid_embed(outputs["pred_queries"])
        return outputs
