"""Region proposals by mmdetection's first rules."""

from __future__ import annotations

import torch
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, Instances
from torchvision.ops import nms

from vis_core.modeling.mmdet.rpn import MMDetRPN
from vis_core.modeling.mmdet_legacy.boxes import clip_boxes


@PROPOSAL_GENERATOR_REGISTRY.register()
class LegacyRPN(MMDetRPN):
    """:class:`MMDetRPN` that clips by pixels and keeps boxes that lie outside the image, as boxes on its rim."""

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
