"""From network resolution to the resolution the user asked for."""

import torch
import torch.nn.functional as F
from detectron2.structures import Instances, ROIMasks


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scale one image's detections to ``output_height`` x ``output_width`` pixels.

    ``results`` has ``pred_boxes`` (or ``proposal_boxes``), which are scaled and clipped IN PLACE, and maybe
    ``pred_masks``, (N, 1, S, S) probabilities inside the boxes. Returns a new object without the detections whose box
    became empty; its ``pred_masks`` are bool (N, output_height, output_width), true from ``mask_threshold`` on.
    """
    height, width = results.image_size
    output = Instances((output_height, output_width), **results.get_fields())
    boxes = output.pred_boxes if output.has("pred_boxes") else output.proposal_boxes
    boxes.scale(output_width / width, output_height / height)
    boxes.clip(output.image_size)
    output = output[boxes.nonempty()]
    if output.has("pred_masks"):
        masks = output.pred_masks
        if not isinstance(masks, ROIMasks):
            masks = ROIMasks(masks[:, 0])
        output.pred_masks = masks.to_bitmasks(output.pred_boxes, output_height, output_width, mask_threshold).tensor
    return output


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """(C, H, W) scores of a padded image -> (C, output_height, output_width), bilinear.

    ``img_size`` is the (height, width) of the image without its padding.
    """
    result = result[None, :, : img_size[0], : img_size[1]]
    return F.interpolate(result, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
