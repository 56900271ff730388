"""From mask logits at stride 4 to masks of the video's own size.

Shapes: N masks, (h, w) logits, (H, W) the video's own size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

CHUNK_PIXELS = 2**22  # masks are enlarged together up to so many pixels: buffers this small stay in the cache


def enlarge_masks(
    logits: torch.Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Bilinear, in two steps: to the padded network input, and, its padding cut off, to the video's size.

    Args:
        logits: (N, h, w) float.
        padded_size: (height, width) of the network's input, image_size: of the image in its upper left corner.
        size: (H, W).

    Returns:
        (N, H, W) float.
    """
    masks = F.interpolate(logits[None], size=padded_size, mode="bilinear", align_corners=False)
    masks = masks[:, :, : image_size[0], : image_size[1]]
    if tuple(image_size) != tuple(size):
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return masks[0]


def masks_in_chunks(
    logits: torch.Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """:func:`enlarge_masks` of a few masks at a time.

    Yields:
        Which of the N these are, the masks (n, H, W) bool, the sum (n,) of the foreground probability over their
        pixels, and the number (n,) of these.
    """
    step = max(CHUNK_PIXELS // (size[0] * size[1]), 1)
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        enlarged = enlarge_masks(logits[part].float(), padded_size, image_size, size)
        masks = enlarged > 0
        num_pixels = torch.stack([mask.count_nonzero() for mask in masks])  # on a CPU much faster than sum(dim)
        # Sums sigmoid(x) where x > 0: elsewhere sigmoid(0) - 0.5 = 0 is added.
        confidence = enlarged.clamp_(min=0).sigmoid_().sub_(0.5).flatten(1).sum(dim=1) + 0.5 * num_pixels
        yield part, masks, confidence, num_pixels
