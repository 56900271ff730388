from vis_core.modeling.clip_transformer.decoder import (
    ClipDecoder,
    ClipDeformAttn,
    DecoderLayerOutput,
    FrameTokens,
    inverse_sigmoid,
)
from vis_core.modeling.clip_transformer.encoder import ClipEncoder
from vis_core.modeling.clip_transformer.position_code import centred_position_code, unpadded_position_code
from vis_core.modeling.clip_transformer.transformer import ClipTransformer, level_map

__all__ = [
    "ClipDecoder",
    "ClipDeformAttn",
    "ClipEncoder",
    "ClipTransformer",
    "DecoderLayerOutput",
    "FrameTokens",
    "centred_position_code",
    "inverse_sigmoid",
    "level_map",
    "unpadded_position_code",
]
