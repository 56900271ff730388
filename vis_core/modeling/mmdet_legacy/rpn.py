"""Region proposals by mmdetection's first rules."""

from __future__ import annotations

import torch
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances, pairwise_iou
from torchvision.ops import nms

from vis_core.modeling.mmdet.rpn import MMDetRPN
from vis_core.modeling.mmdet_legacy.boxes import clip_boxes


@PROPOSAL_GENERATOR_REGISTRY.register()
class LegacyRPN(MMDetRPN):
    """:class:`MMDetRPN` that clips by pixels and keeps boxes that lie outside the image, as boxes on its rim.

    With ``RPN.BOUNDARY_THRESH`` >= 0 objects claim anchors only among those that do not reach further out of the image.
    In the losses' divisor an image counts at least one positive and one negative anchor.
    """

    def count_sampled(self, labels: torch.Tensor) -> torch.Tensor:
        """As of MMDetRPN."""
        return (labels == 1).sum().clamp(min=1) + (labels == 0).sum().clamp(min=1)

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Choose the anchors of each image's loss: labels (R,), 1, 0 or -1 = not in the loss, and their objects' boxes
        (R, 4), for each image."""
        anchors = Boxes.cat(anchors)
        all_labels, all_boxes = [], []
        for gt in gt_instances:
            inside = self._reach_out_at_most(anchors.tensor, gt.image_size).nonzero()[:, 0]
            matches, labels = self.anchor_matcher(pairwise_iou(gt.gt_boxes, anchors[inside]))
            positive, negative = subsample_labels(labels, self.batch_size_per_image, self.positive_fraction, 0)
            chosen = torch.full((len(anchors),), -1, dtype=torch.int8, device=anchors.device)
            chosen[inside[positive]] = 1
            chosen[inside[negative]] = 0
            boxes = torch.zeros_like(anchors.tensor)
            if len(gt):
                boxes[inside] = gt.gt_boxes.tensor[matches]
            all_labels.append(chosen)
            all_boxes.append(boxes)
        return all_labels, all_boxes

    def _reach_out_at_most(self, boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """Bool (R,)."""
        if self.anchor_boundary_thresh < 0:
            return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        height, width = image_size
        ends = boxes.new_tensor([width, height]) + self.anchor_boundary_thresh
        return ((boxes[:, :2] >= -self.anchor_boundary_thresh) & (boxes[:, 2:] <= ends)).all(dim=1)

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Best proposals of B images, best first.

        Args:
            anchors: of each level.
            pred_objectness_logits, pred_anchor_deltas: of each level, (B, R) and (B, R, 4).
            image_sizes: (H, W) without padding.
        """
        proposals = []
        for b, size in enumerate(image_sizes):
            levels = [
                self._best_of_level(level.tensor, logits[b], deltas[b], size)
                for level, logits, deltas in zip(anchors, pred_objectness_logits, pred_anchor_deltas)
            ]
            boxes, logits = (torch.cat(x) for x in zip(*levels))
            logits, order = logits.sort(descending=True, stable=True)
            kept = order[: self.post_nms_topk[self.training]]
            proposals.append(Instances(size, proposal_boxes=Boxes(boxes[kept]), objectness_logits=logits[: len(kept)]))
        return proposals

    def _best_of_level(self, anchors, logits, deltas, image_size) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (k, 4) and logits (k,) of one image's level."""
        logits, index = logits.topk(min(self.pre_nms_topk[self.training], len(logits)))
        boxes = self.box2box_transform.apply_deltas(deltas[index], anchors[index])
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
        if self.training and not finite.all():
            raise FloatingPointError("the proposal generator predicted infinite or NaN values: training has diverged")
        boxes, logits = clip_boxes(boxes[finite], image_size), logits[finite].float()
        kept = nms(boxes, logits, self.nms_thresh)[: self.post_nms_topk[self.training]]
        return boxes[kept], logits[kept]
