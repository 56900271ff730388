"""Where sequences start: key frames, and the objects detected on them.

Shapes: T frames, K key frames, N detections, (h, w) the image without padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from detectron2.structures import ImageList, Instances

from vis_core.modeling.mmdet_legacy import paste_masks

if TYPE_CHECKING:
    from projects.seq_mask_rcnn.model import SeqMaskRCNN


def key_frames(num_frames: int, key_num: int, rule: str = "released") -> list[int]:
    """K key frames of a video, ascending; a frame comes more than once where T < K.

    Args:
        num_frames: T > 0.
        key_num: K > 0. The one key frame of K = 1, where the released code fails, is the middle one.
        rule: "released": first, last and frames between, as the released code computes them in floats (for K = 8 and
            T = 62, 116, ... the last one is T - 2); "even": the same in whole numbers; "paper": multiples of T // K,
            at least 1, without the last frame.
    """
    if rule == "paper":
        step = max(num_frames // key_num, 1)
        return [step * k for k in range(key_num) if step * k < num_frames]
    last = num_frames - 1
    if key_num == 1:
        return [last // 2]
    if rule == "even":
        return [last * k // (key_num - 1) for k in range(key_num)]
    step = last / (key_num - 1)
    return [int(step * k) for k in range(key_num)]


def memory_step(num_frames: int, mem_step: int, mem_num: int) -> int:
    """Frames from one memory entry to the next: ``mem_step``, or if that is 0, T // ``mem_num`` (at least 1)."""
    return mem_step if mem_step > 0 else max(num_frames // mem_num, 1)


def distinct_masks(masks: torch.Tensor, max_iou: float) -> list[int]:
    """Indices of masks that overlap no kept one before them by ``max_iou`` or more.

    Empty masks overlap nothing, each other included.

    Args:
        masks: (N, h, w) bool, in the order in which they are considered.
    """
    flat = masks.flatten(1).float()
    common = (flat @ flat.T).double().cpu()  # (N, N) pixels, exact below 2**24
    areas = common.diagonal()
    union = areas[:, None] + areas[None, :] - common
    overlaps = ((common / union) >= max_iou).tolist()  # 0 / 0 is NaN, which is not
    kept: list[int] = []
    for i, row in enumerate(overlaps):
        if not any(row[j] for j in kept):
            kept.append(i)
    return kept


def detect(model: SeqMaskRCNN, features: dict[str, torch.Tensor], images: ImageList) -> Instances:
    """Detections of one image, in the detector's order: pred_boxes, scores, pred_classes, pred_masks (N, h, w) bool."""
    proposals, _ = model.proposal_generator(images, features, None)
    heads = model.roi_heads
    pooled = heads.box_pooler([features[name] for name in heads.box_in_features], [proposals[0].proposal_boxes])
    (found,), _ = heads.box_predictor.inference(heads.box_predictor(heads.box_head(pooled)), proposals)
    if len(found):
        (found,) = heads.forward_with_given_boxes(features, [found])
        masks = found.pred_masks[:, 0]
    else:
        masks = found.scores.new_zeros((0, 1, 1))
    found.pred_masks = paste_masks(masks, found.pred_boxes.tensor, images.image_sizes[0])
    return found


def propose(model: SeqMaskRCNN, features: dict[str, torch.Tensor], images: ImageList) -> torch.Tensor:
    """Masks (N, h, w) bool of the objects to propagate from one key frame; their classes and scores play no part."""
    masks = detect(model, features, images).pred_masks
    if not model.settings.KEEP_EMPTY_MASKS:
        masks = masks[masks.flatten(1).any(dim=1)]
    return masks[distinct_masks(masks, model.settings.MASK_NMS_IOU)]
