from vis_core.modeling.clip_transformer.decoder import (
    ClipDecoder,
    ClipDeformAttn,
    DecoderLayerOutput,
    FrameTokens,
    inverse_sigmoid,
)
from vis_core.modeling.clip_transformer.encoder import ClipEncoder
from vis_core.modeling.clip_transformer.positional_encoding import (
    centred_positional_encoding,
    unpadded_positional_encoding,
)
from vis_core.modeling.clip_transformer.transformer import ClipTransformer, level_map

__all__ = [
    "ClipDecoder",
    "ClipDeformAttn",
    "ClipEncoder",
    "ClipTransformer",
    "DecoderLayerOutput",
    "FrameTokens",
    "centred_positional_encoding",
    "inverse_sigmoid",
    "level_map",
    "unpadded_positional_encoding",
]
