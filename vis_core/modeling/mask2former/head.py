"""Pixel decoder and query decoder as one of Detectron2's segmentation heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from vis_core.errors import ConfigError
from vis_core.modeling.mask2former.pixel_decoder import MSDeformAttnPixelDecoder
from vis_core.modeling.mask2former.query_decoder import QUERY_DECODER_REGISTRY


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """From a backbone's maps to classes and masks of queries."""

    @configurable
    def __init__(self, *, pixel_decoder: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
        if name not in QUERY_DECODER_REGISTRY:
            known = ", ".join(sorted(key for key, _ in QUERY_DECODER_REGISTRY))
            raise ConfigError(f"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME: unknown decoder '{name}' (known: {known})")
        missing = [name for name in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES if name not in input_shape]
        if missing:
            raise ConfigError(f"MODEL.SEM_SEG_HEAD.IN_FEATURES: the backbone puts out no {', '.join(missing)}")
        return {
            "pixel_decoder": MSDeformAttnPixelDecoder(cfg, input_shape),
            "predictor": QUERY_DECODER_REGISTRY.get(name)(cfg),
        }

    def forward(
        self, features: Mapping[str, torch.Tensor], with_aux: bool | None = None
    ) -> dict[str, torch.Tensor | list[dict[str, torch.Tensor]]]:
        """As :meth:`MultiScaleMaskedTransformerDecoder.forward`, from the backbone's maps."""
        mask_features, maps = self.pixel_decoder(features)
        return self.predictor(maps, mask_features, with_aux)
