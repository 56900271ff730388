"""Training losses of pairs of frames: detection in the one, and propagation from the other one to it.

Shapes: B clips, each of a target frame (first) and a reference frame; N objects that are propagated; (H, W) the padded
image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from detectron2.structures import Boxes, ImageList, Instances
from torch.nn import functional as F

from projects.seq_mask_rcnn.losses import soft_iou_loss
from projects.seq_mask_rcnn.propagation import PropagationHead, as_entry, read_memory, soft_aggregate
from vis_core.modeling import visible
from vis_core.modeling.mmdet_legacy import clip_boxes, paste_masks

if TYPE_CHECKING:
    from projects.seq_mask_rcnn.model import SeqMaskRCNN


def losses(model: SeqMaskRCNN, clips: list[dict]) -> dict[str, torch.Tensor]:
    """loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg, loss_mask and loss_prop; their sum is to be minimised.

    As published, each is a mean over what was sampled in all clips of this process, so that a step depends on how a
    global batch is shared among processes.

    Args:
        clips: dicts with ``image`` (target and reference frame (3, h, w) uint8) and ``instances`` of both, with aligned
            rows: gt_boxes, gt_classes, gt_masks and gt_ids (-1 = not in this frame).
    """
    settings = model.settings.TRAIN
    num_clips = len(clips)
    images = model.preprocess_image([{"image": clip["image"][k]} for k in (0, 1) for clip in clips])  # 2B
    features = model.features(images.tensor)
    objects = [clip["instances"][k].to(model.device) for k in (0, 1) for clip in clips]

    num_detected = 2 * num_clips if settings.SYMMETRIC else num_clips
    of_detector = detector_losses(
        model,
        ImageList(images.tensor[:num_detected], images.image_sizes[:num_detected]),
        {name: x[:num_detected] for name, x in features.items()},
        [visible(frame) for frame in objects[:num_detected]],
    )
    pairs = [(b, num_clips + b) for b in range(num_clips)]
    if settings.SYMMETRIC:
        pairs += [(reference, target) for target, reference in pairs]
    per_object = [
        pair_losses(
            model,
            {name: x[target : target + 1] for name, x in features.items()},
            {name: x[reference : reference + 1] for name, x in features.items()},
            objects[target],
            objects[reference],
            settings.MAX_PROP_OBJECTS,
        )
        for target, reference in pairs
    ]
    loss_prop = torch.cat(per_object)
    # Without an object the loss is 0, and every parameter still gets a gradient, which several processes need.
    loss_prop = loss_prop.mean() if len(loss_prop) else 0 * sum(p.sum() for p in model.prop_head.parameters())
    return of_detector | {"loss_prop": loss_prop * settings.PROP_LOSS_WEIGHT}


def detector_losses(
    model: SeqMaskRCNN, images: ImageList, features: dict[str, torch.Tensor], objects: list[Instances]
) -> dict[str, torch.Tensor]:
    """Losses of the proposals and of the box and the mask head."""
    proposals, proposal_losses = model.proposal_generator(images, features, objects)
    _, head_losses = model.roi_heads(images, features, proposals, objects)
    return proposal_losses | head_losses


def pair_losses(
    model: SeqMaskRCNN,
    target: dict[str, torch.Tensor],
    reference: dict[str, torch.Tensor],
    target_objects: Instances,
    reference_objects: Instances,
    max_objects: int,
) -> torch.Tensor:
    """Loss (N,) of each object that is propagated from the reference to the target frame.

    Args:
        target, reference: features of one frame each.
        target_objects, reference_objects: with aligned rows.
    """
    rows = common_rows(target_objects, reference_objects, max_objects)
    if len(rows) == 0:
        return reference["p2"].new_zeros(0)
    masks = predicted_masks(
        model,
        reference,
        reference_objects.gt_boxes.tensor[rows],
        target_objects.gt_classes[rows],
        reference_objects.image_size,
    )
    carried = propagate(model.prop_head, reference["p2"], masks, target)  # (N, H, W)
    height, width = target_objects.image_size
    truth = target_objects.gt_masks.tensor[rows]
    truth = F.pad(truth, (0, carried.shape[2] - width, 0, carried.shape[1] - height))
    return soft_iou_loss(carried, truth)


def common_rows(target: Instances, reference: Instances, max_objects: int) -> torch.Tensor:
    """Rows (N,) of objects that both frames show, at most ``max_objects`` of them, drawn at random."""
    rows = ((target.gt_ids >= 0) & (reference.gt_ids >= 0)).nonzero()[:, 0]
    if len(rows) <= max_objects:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:max_objects].sort().values]


@torch.no_grad()
def predicted_masks(
    model: SeqMaskRCNN,
    features: dict[str, torch.Tensor],
    boxes: torch.Tensor,
    classes: torch.Tensor,
    image_size: tuple[int, int],
) -> torch.Tensor:
    """What the mask head sees in given boxes of a frame: probabilities (N, *image_size), 0 outside of them.

    Args:
        boxes: (N, 4), pixels.
        classes: (N,) int64; whose masks.
    """
    heads = model.roi_heads
    pooled = heads.mask_pooler([features[name] for name in heads.mask_in_features], [Boxes(boxes)])
    logits = heads.mask_head.layers(pooled)  # (N, K or 1, S, S)
    channels = classes if logits.shape[1] > 1 else torch.zeros_like(classes)
    masks = logits[torch.arange(len(classes), device=classes.device), channels].sigmoid()
    return paste_masks(masks, clip_boxes(boxes, image_size), image_size, threshold=None)


def propagate(
    head: PropagationHead, reference_p2: torch.Tensor, masks: torch.Tensor, target: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Probabilities (N, H, W) in the target frame of objects with ``masks`` (N, h, w) in the reference frame."""
    keys, values = head.memorise(reference_p2, masks)
    query_key, query_value = head.query(target["p2"])
    read = read_memory(as_entry(keys), as_entry(values), query_key)
    alone = head.decode(read, query_value, head.skips(target["res2"], target["res3"]))
    return soft_aggregate(alone)[1][1:]
