"""Which boxes of the box head are detections, and in which order."""

from __future__ import annotations

import torch
from detectron2.modeling import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from torchvision.ops import nms

from vis_core.modeling.mmdet_legacy.boxes import clip_boxes


class LegacyOutputLayers(FastRCNNOutputLayers):
    """Detectron2's layers with mmdetection's first rules for detections.

    Boxes are clipped by pixels. Detections come class after class, by descending score in each; only if there are more
    than ``test_topk_per_image`` are they cut to so many and come by descending score throughout.
    """

    def inference(self, predictions: tuple, proposals: list[Instances]) -> tuple[list[Instances], list[torch.Tensor]]:
        """Detections of each image, and each one's row among the image's proposals."""
        boxes = self.predict_boxes(predictions, proposals)
        probabilities = self.predict_probs(predictions, proposals)
        found = [self._of_image(*one) for one in zip(boxes, probabilities, [p.image_size for p in proposals])]
        return [instances for instances, _ in found], [rows for _, rows in found]

    def _of_image(self, boxes, probabilities, image_size) -> tuple[Instances, torch.Tensor]:
        """From (R, 4K or 4) boxes and (R, K + 1) probabilities, background last."""
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(probabilities).all(dim=1)
        boxes = clip_boxes(boxes.unflatten(1, (-1, 4)), image_size)  # (R, K or 1, 4)
        over = (probabilities[:, :-1] > self.test_score_thresh) & finite[:, None]  # (R, K)
        rows, classes = [], []
        for label in over.any(dim=0).nonzero()[:, 0].tolist():
            candidates = over[:, label].nonzero()[:, 0]
            own = boxes[candidates, label if boxes.shape[1] > 1 else 0]
            kept = nms(own.float(), probabilities[candidates, label].float(), self.test_nms_thresh)
            rows.append(candidates[kept])
            classes.append(torch.full_like(kept, label))
        rows = torch.cat(rows) if rows else over.new_zeros(0, dtype=torch.int64)
        classes = torch.cat(classes) if classes else torch.zeros_like(rows)
        scores = probabilities[rows, classes]
        if len(rows) > self.test_topk_per_image >= 0:
            best = scores.sort(descending=True, stable=True).indices[: self.test_topk_per_image]
            rows, classes, scores = rows[best], classes[best], scores[best]
        picked = boxes[rows, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)]
        return Instances(image_size, pred_boxes=Boxes(picked), scores=scores, pred_classes=classes), rows
