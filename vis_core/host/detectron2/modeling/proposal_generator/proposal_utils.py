"""Selection of proposals among decoded anchors, and ground truth as proposals."""

import math

import torch
from detectron2.layers import batched_nms, cat
from detectron2.structures import Boxes, Instances


def select_proposals(
    boxes: list[torch.Tensor],
    logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Suppress overlaps among each image's candidates, level by level, and keep the best.

    Args:
        boxes, logits: for each level (N, k_level, 4) in pixels and (N, k_level), of N images.
        image_sizes: (height, width) of each image without padding; boxes are clipped to it.
        nms_thresh: IoU above which the weaker of two candidates of one level goes.
        post_nms_topk: proposals kept for each image, over all levels.
        min_box_size: boxes whose sides do not exceed this many pixels are dropped.

    Returns for each image ``proposal_boxes`` and ``objectness_logits``, best first.
    Raises FloatingPointError in training when a candidate is not finite; otherwise such candidates are dropped.
    """
    device = logits[0].device
    level_ids = torch.cat(
        [torch.full((x.shape[1],), level, dtype=torch.int64, device=device) for level, x in enumerate(logits)]
    )
    return [
        _select_in_image(image_boxes, image_logits, level_ids, size, nms_thresh, post_nms_topk, min_box_size, training)
        for image_boxes, image_logits, size in zip(cat(boxes, dim=1), cat(logits, dim=1), image_sizes)
    ]


def _select_in_image(
    boxes, logits, level_ids, image_size, nms_thresh, post_nms_topk, min_box_size, training
) -> Instances:
    """:func:`select_proposals` for (R, 4) boxes, (R,) logits and (R,) level numbers of one image."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    if not finite.all():
        if training:
            raise FloatingPointError("the proposal generator predicted infinite or NaN values: training has diverged")
        boxes, logits, level_ids = boxes[finite], logits[finite], level_ids[finite]
    boxes = Boxes(boxes)
    boxes.clip(image_size)
    big_enough = boxes.nonempty(threshold=min_box_size)
    if not big_enough.all():
        boxes, logits, level_ids = boxes[big_enough], logits[big_enough], level_ids[big_enough]
    keep = batched_nms(boxes.tensor, logits, level_ids, nms_thresh)[:post_nms_topk]
    return Instances(image_size, proposal_boxes=boxes[keep], objectness_logits=logits[keep])


def add_ground_truth_to_proposals(gt: list[Instances] | list[Boxes], proposals: list[Instances]) -> list[Instances]:
    """Append each image's ground-truth boxes (of Instances with ``gt_boxes``, or Boxes) to its proposals.

    Lets heads see good boxes from the first iteration on. Appended boxes get the logit of probability 1 - 1e-10;
    any further field of the proposals is taken from the ground truth, which must have it.
    """
    assert len(gt) == len(proposals), f"ground truth of {len(gt)} images for proposals of {len(proposals)}"
    return [_add_ground_truth(one_gt, one) for one_gt, one in zip(gt, proposals)]


def _add_ground_truth(gt: Instances | Boxes, proposals: Instances) -> Instances:
    if isinstance(gt, Boxes):
        gt = Instances(proposals.image_size, gt_boxes=gt)
    sure = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))
    boxes = gt.gt_boxes
    extra = Instances(proposals.image_size)
    extra.proposal_boxes = boxes
    extra.objectness_logits = proposals.objectness_logits.new_full((len(boxes),), sure)
    for name in proposals.get_fields():
        if name not in ("proposal_boxes", "objectness_logits"):
            assert gt.has(name), f"proposals have the field {name!r}, their ground truth has not"
            extra.set(name, gt.get(name))
    return Instances.cat([proposals, extra])
