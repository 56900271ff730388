"""The box geometry of mmdetection before its version 2, as registered modules.

There a box's corners were its first and last pixel (width = x2 - x1 + 1), anchors were rounded to whole pixels, and
RoIAlign sampled half a cell further. The modules here work on ordinary boxes, whose x2 and y2 are one larger, and
compute the same numbers. Importing the package registers ``LegacyAnchorGenerator``, ``LegacyRPN`` and
``LegacyROIHeads``.
"""

from vis_core.modeling.mmdet_legacy.anchors import LegacyAnchorGenerator
from vis_core.modeling.mmdet_legacy.boxes import clip_boxes
from vis_core.modeling.mmdet_legacy.detections import LegacyOutputLayers
from vis_core.modeling.mmdet_legacy.mask_targets import PixelMasks
from vis_core.modeling.mmdet_legacy.masks import paste_masks
from vis_core.modeling.mmdet_legacy.pooler import LegacyROIPooler
from vis_core.modeling.mmdet_legacy.roi_heads import LegacyROIHeads
from vis_core.modeling.mmdet_legacy.rpn import LegacyRPN

__all__ = [
    "LegacyAnchorGenerator",
    "LegacyOutputLayers",
    "LegacyROIHeads",
    "LegacyROIPooler",
    "LegacyRPN",
    "PixelMasks",
    "clip_boxes",
    "paste_masks",
]
