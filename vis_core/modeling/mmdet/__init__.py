"""Where mmdetection's two-stage detectors differ from Detectron2's, as registered modules and small parts.

Importing it registers the proposal generator ``MMDetRPN`` and the ROI heads ``MMDetROIHeads``: a config that names them
reproduces models trained with mmdetection, one that names ``RPN`` and ``StandardROIHeads`` gets Detectron2's own.
"""

from vis_core.modeling.mmdet.box_coder import ClampedBox2BoxTransform
from vis_core.modeling.mmdet.config import add_mmdet_config
from vis_core.modeling.mmdet.matcher import LowQualityMatcher
from vis_core.modeling.mmdet.pooler import MMDetROIPooler, assign_levels
from vis_core.modeling.mmdet.roi_heads import MMDetROIHeads, build_pooler
from vis_core.modeling.mmdet.rpn import MMDetRPN

__all__ = [
    "ClampedBox2BoxTransform",
    "LowQualityMatcher",
    "MMDetROIHeads",
    "MMDetROIPooler",
    "MMDetRPN",
    "add_mmdet_config",
    "assign_levels",
    "build_pooler",
]
