"""Classification and box regression of proposals (Girshick, ICCV 2015)."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms, cat, cross_entropy, nonzero_tuple
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ..box_regression import Box2BoxTransform, box_regression_loss

# Shapes below: R boxes (of one image or of all images together), K foreground classes. Class K is background.


def fast_rcnn_inference(
    boxes: list[torch.Tensor],
    scores: list[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Detections of every image; see :func:`fast_rcnn_inference_single_image`."""
    results = [
        fast_rcnn_inference_single_image(*image, score_thresh, nms_thresh, topk_per_image)
        for image in zip(boxes, scores, image_shapes)
    ]
    return [instances for instances, _ in results], [kept for _, kept in results]


def fast_rcnn_inference_single_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """Detections of one image: a score threshold, non-maximum suppression within each class, the best of the rest.

    Args:
        boxes: (R, 4K), or (R, 4) where a box serves all classes; pixels. Rows with a number that is not finite are
            dropped.
        scores: (R, K + 1) probabilities, background last.
        image_shape: (height, width) to clip to.
        score_thresh: detections must score more.
        nms_thresh: IoU above which the weaker of two detections of one class goes.
        topk_per_image: detections kept; negative keeps all.

    Returns:
        ``pred_boxes``, ``scores`` and ``pred_classes``, best first, and for each detection its row of ``boxes``.
    """
    rows = torch.arange(len(boxes), device=boxes.device)
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    if not finite.all():
        boxes, scores, rows = boxes[finite], scores[finite], rows[finite]
    scores = scores[:, :-1]
    boxes = boxes.unflatten(1, (-1, 4))  # (R, K or 1, 4)
    row, classes = nonzero_tuple(scores > score_thresh)
    scores = scores[row, classes]
    candidates = Boxes(boxes[row, classes if boxes.shape[1] > 1 else 0])
    candidates.clip(image_shape)
    keep = batched_nms(candidates.tensor, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    result = Instances(image_shape, pred_boxes=candidates[keep], scores=scores[keep], pred_classes=classes[keep])
    return result, rows[row[keep]]


def _log_classification(logits: torch.Tensor, gt_classes: torch.Tensor) -> None:
    """Put accuracy, accuracy on objects, and the share of objects taken for background into the event storage."""
    if gt_classes.numel() == 0:
        return
    storage = get_event_storage()
    background = logits.shape[1] - 1
    predicted = logits.argmax(dim=1)
    correct = predicted == gt_classes
    storage.put_scalar("fast_rcnn/cls_accuracy", correct.sum().item() / gt_classes.numel())
    foreground = (gt_classes >= 0) & (gt_classes < background)
    num_foreground = foreground.sum().item()
    if num_foreground > 0:
        storage.put_scalar("fast_rcnn/fg_cls_accuracy", correct[foreground].sum().item() / num_foreground)
        missed = (predicted[foreground] == background).sum().item()
        storage.put_scalar("fast_rcnn/false_negative", missed / num_foreground)


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers on box features: logits of K + 1 classes, and box deltas.

    Args:
        input_shape: shape of one box's features, or their number.
        box2box_transform: meaning of the deltas.
        num_classes: K.
        test_score_thresh, test_nms_thresh, test_topk_per_image: see :func:`fast_rcnn_inference_single_image`.
        cls_agnostic_bbox_reg: one box for all classes instead of one each.
        smooth_l1_beta, box_reg_loss_type: see :func:`..box_regression.box_regression_loss`.
        loss_weight: for both losses, or a dict by loss name.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
    ):
        super().__init__()
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        self.num_classes = num_classes
        input_size = input_shape.channels * (input_shape.width or 1) * (input_shape.height or 1)
        num_boxes = 1 if cls_agnostic_bbox_reg else num_classes
        # Both layers are constructed before either is initialised: a seed's random numbers depend on the order.
        self.cls_score = nn.Linear(input_size, num_classes + 1)
        self.bbox_pred = nn.Linear(input_size, num_boxes * 4)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

        self.box2box_transform = box2box_transform
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        head = cfg.MODEL.ROI_BOX_HEAD
        for key in ("USE_FED_LOSS", "USE_SIGMOID_CE"):
            if head[key]:
                raise NotImplementedError(f"MODEL.ROI_BOX_HEAD.{key} needs the official detectron2 package")
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "test_score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "test_nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
        }

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, D) or (R, C, S, S) features -> (R, K + 1) logits and (R, 4K or 4) deltas."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """``loss_cls`` and ``loss_box_reg`` of the proposals of all images.

        Args:
            predictions: what :meth:`forward` returned for the proposals in their order.
            proposals: with ``proposal_boxes``, ``gt_classes`` (K is background) and, in images that have objects,
                ``gt_boxes``.

        Both losses are divided by the number of proposals, sampled background included.
        """
        logits, deltas = predictions
        gt_classes = cat([p.gt_classes for p in proposals])
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        assert not boxes.requires_grad, "proposals must not carry a gradient"
        # Proposals of an image without objects are all background; their ground-truth box is never read.
        gt_boxes = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        _log_classification(logits, gt_classes)
        losses = {
            "loss_cls": cross_entropy(logits, gt_classes, reduction="mean"),
            "loss_box_reg": self.box_reg_loss(boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def box_reg_loss(
        self, proposal_boxes: torch.Tensor, gt_boxes: torch.Tensor, pred_deltas: torch.Tensor, gt_classes: torch.Tensor
    ) -> torch.Tensor:
        """Regression loss of foreground boxes on their class's deltas, divided by the number of all R boxes."""
        foreground = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        fg_deltas = pred_deltas.unflatten(1, (-1, 4))  # (R, K or 1, 4)
        fg_deltas = fg_deltas[foreground, gt_classes[foreground] if fg_deltas.shape[1] > 1 else 0]
        loss = box_regression_loss(
            fg_deltas,
            proposal_boxes[foreground],
            gt_boxes[foreground],
            self.box2box_transform,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / max(gt_classes.numel(), 1.0)

    def inference(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Detections of every image, and for each of them the index of its proposal."""
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...]:
        """For each image its (R, 4K or 4) boxes in pixels, not clipped."""
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        return self.box2box_transform.apply_deltas(predictions[1], boxes).split([len(p) for p in proposals])

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...]:
        """For each image its (R, 4) boxes predicted for ``gt_classes``; any class's box for background."""
        counts = [len(p) for p in proposals]
        boxes = torch.cat(self.predict_boxes(predictions, proposals)).unflatten(1, (-1, 4))  # (R, K or 1, 4)
        gt_classes = cat([p.gt_classes for p in proposals]).clamp(0, boxes.shape[1] - 1)
        return boxes[torch.arange(len(boxes), device=boxes.device), gt_classes].split(counts)

    def predict_probs(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...]:
        """For each image its (R, K + 1) class probabilities."""
        return F.softmax(predictions[0], dim=-1).split([len(p) for p in proposals])
