"""Which query answers for which object of a clip: one assignment for all its frames (SeqFormer, arXiv 2112.08275).

Shapes: B clips, T frames, Q queries, K classes, N objects of a clip, (H, W) masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert, generalized_box_iou

from projects.vmt.losses import pairwise_focal_cost
from vis_core.modeling.set_prediction import Match


class ClipTargets(NamedTuple):
    """The objects of one clip.

    Attributes:
        labels: (N,) int64, as the class logits count them.
        boxes: (N, T, 4) float32, centre, width and height in shares of the image; 1e-6 where a frame lacks the object.
        masks: (N, T, H, W) bool, padded.
        image_size: (height, width) of the image inside, top left.
    """

    labels: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor
    image_size: tuple[int, int]


class ClipMatcher:
    """The cheapest one-to-one assignment, by class and by the boxes of all frames."""

    @configurable
    def __init__(self, *, class_weight: float = 2.0, box_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.giou_weight = giou_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT.MATCHER
        return {
            "class_weight": node.CLASS_WEIGHT,
            "box_weight": node.BOX_WEIGHT,
            "giou_weight": node.GIOU_WEIGHT,
        }

    @torch.no_grad()
    def __call__(self, logits: torch.Tensor, boxes: torch.Tensor, targets: Sequence[ClipTargets]) -> list[Match]:
        """Match every clip on its own.

        Args:
            logits: (B, Q, K).
            boxes: (B, T, Q, 4) centre, width and height in shares of the image.
            targets: B clips' objects.

        Returns:
            B pairs of queries and objects, on the CPU; min(Q, N) of each.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return [self._match(*clip) for clip in zip(logits.float(), boxes.float(), targets)]

    def _match(self, logits: torch.Tensor, boxes: torch.Tensor, targets: ClipTargets) -> Match:
        cost = self.class_weight * pairwise_focal_cost(logits, targets.labels)  # (Q, N)
        # As published: the Euclidean distance of all frames' boxes, although the loss is their L1 distance.
        cost += self.box_weight * torch.cdist(boxes.transpose(0, 1).flatten(1), targets.boxes.flatten(1))
        overlaps = [generalized_box_iou(corners(a), corners(b)) for a, b in zip(boxes, targets.boxes.transpose(0, 1))]
        cost -= self.giou_weight * torch.stack(overlaps).mean(dim=0)
        # Overflown boxes of a step that the gradient scaler will skip must not stop the training.
        queries, objects = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
        return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(objects, dtype=torch.int64)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) centre, width and height -> left, top, right and bottom."""
    return box_convert(boxes, in_fmt="cxcywh", out_fmt="xyxy")
