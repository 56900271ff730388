"""Mask2Former: pixel decoder, query decoder, matcher, criterion, and the image model made of them."""

from vis_core.modeling.mask2former.config import add_mask2former_config
from vis_core.modeling.mask2former.criterion import MaskCriterion
from vis_core.modeling.mask2former.head import MaskFormerHead
from vis_core.modeling.mask2former.matcher import MaskMatcher, MaskTargets
from vis_core.modeling.mask2former.model import MaskFormer, instance_inference, mask_targets
from vis_core.modeling.mask2former.pixel_decoder import MSDeformAttnPixelDecoder
from vis_core.modeling.mask2former.positional_encoding import sine_positional_encoding
from vis_core.modeling.mask2former.query_decoder import QUERY_DECODER_REGISTRY, MultiScaleMaskedTransformerDecoder

__all__ = [
    "QUERY_DECODER_REGISTRY",
    "MSDeformAttnPixelDecoder",
    "MaskCriterion",
    "MaskFormer",
    "MaskFormerHead",
    "MaskMatcher",
    "MaskTargets",
    "MultiScaleMaskedTransformerDecoder",
    "add_mask2former_config",
    "instance_inference",
    "mask_targets",
    "sine_positional_encoding",
]
