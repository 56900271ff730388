"""From masks within boxes to masks of an image. Symbols: N instances, S mask size, H, W image size."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["paste_masks_in_image"]

BYTES_PER_CHUNK = 1024**3  # of the float masks that a GPU resamples at a time


def paste_masks_in_image(masks: Tensor, boxes, image_shape: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Resample each mask bilinearly into its box of the image.

    Pixel (x, y) has its centre at (x + 0.5, y + 0.5), in the boxes' coordinates. Bilinear values fade out within half a
    mask cell outside of the box; they stay below half of the mask's maximum there, and on the CPU they end a pixel
    outside of the box.

    Args:
        masks: (N, S, S) probabilities.
        boxes: Boxes or (N, 4), x0, y0, x1, y1 in pixels; they may reach beyond the image.
        image_shape: (H, W).
        threshold: a pixel is inside from this probability on; negative for probabilities times 255 instead.

    Returns:
        (N, H, W): bool, or uint8 if ``threshold`` is negative (and, whatever the threshold, if N = 0).
    """
    assert masks.dim() == 3 and masks.shape[1] == masks.shape[2], f"masks must be (N, S, S), got {tuple(masks.shape)}"
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    n, (h, w) = len(masks), image_shape
    assert len(boxes) == n, f"{len(boxes)} boxes for {n} masks"
    if n == 0:
        return masks.new_empty((0, h, w), dtype=torch.uint8)
    if not masks.dtype.is_floating_point:
        masks = masks.float()

    pasted = masks.new_zeros((n, h, w), dtype=torch.bool if threshold >= 0 else torch.uint8)
    if masks.device.type == "cpu":
        # One instance at a time, and only the part of the image that its box can reach.
        for i in range(n):
            x0, y0, x1, y1 = _reach(boxes[i], h, w)
            values = _resample(masks[i : i + 1], boxes[i : i + 1], x0, y0, x1, y1)
            pasted[i, y0:y1, x0:x1] = _quantise(values, threshold)[0]
    else:
        # Whole images, many instances at a time: few launches, no synchronisation.
        chunk = max(1, BYTES_PER_CHUNK // (4 * h * w))
        for i in range(0, n, chunk):
            values = _resample(masks[i : i + chunk], boxes[i : i + chunk], 0, 0, w, h)
            pasted[i : i + chunk] = _quantise(values, threshold)
    return pasted


def _reach(box: Tensor, h: int, w: int) -> tuple[int, int, int, int]:
    """Pixel range x0, y0, x1, y1 that a box touches, with a margin of one pixel, within the image."""
    x0, y0 = (box[:2].floor() - 1).tolist()
    x1, y1 = (box[2:].ceil() + 1).tolist()
    x0, y0 = int(min(max(x0, 0), w)), int(min(max(y0, 0), h))
    return x0, y0, int(min(max(x1, x0), w)), int(min(max(y1, y0), h))


def _resample(masks: Tensor, boxes: Tensor, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """(N, y1 - y0, x1 - x0) values of the masks at the centres of a range of pixels; 0 outside of the boxes."""
    left, top, right, bottom = boxes.split(1, dim=1)  # (N, 1) each
    y = torch.arange(y0, y1, device=masks.device, dtype=torch.float32) + 0.5
    x = torch.arange(x0, x1, device=masks.device, dtype=torch.float32) + 0.5
    y = (y - top) / (bottom - top) * 2 - 1  # (N, h): -1 and 1 are the box's sides
    x = (x - left) / (right - left) * 2 - 1  # (N, w)
    n = len(masks)
    grid = torch.stack(
        [x[:, None, :].expand(n, y.shape[1], x.shape[1]), y[:, :, None].expand(n, -1, x.shape[1])], dim=3
    )
    return F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]


def _quantise(values: Tensor, threshold: float) -> Tensor:
    return values >= threshold if threshold >= 0 else (values * 255).to(torch.uint8)
