"""From a network's mask logits to masks of the image's or video's own size.

Shapes: N masks, (h, w) logits, (H, W) the size wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

CHUNK_PIXELS = 2**22  # masks are resized together up to so many pixels: buffers this small stay in the cache


def resize_masks(
    logits: torch.Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Bilinear, in two steps: to the padded network input, and, its padding cut off, to the size wanted.

    A step that changes no size is left out: with three times the same size it is one interpolation.

    Args:
        logits: (A, B, h, w) float. What PyTorch rounds to depends on how N masks are spread over A and B.
        padded_size: (height, width) of the network's input, image_size: of the image in its upper left corner.
        size: (H, W).

    Returns:
        (A, B, H, W) float.
    """
    masks = F.interpolate(logits, size=tuple(padded_size), mode="bilinear", align_corners=False)
    masks = masks[:, :, : image_size[0], : image_size[1]]
    if tuple(image_size) != tuple(size):
        masks = F.interpolate(masks, size=tuple(size), mode="bilinear", align_corners=False)
    return masks


def resized_in_chunks(
    logits: torch.Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """:func:`resize_masks` of a few masks (N, h, w) at a time.

    Yields:
        Which of the N these are, and their logits (n, H, W) float32, which the caller may change.
    """
    step = max(CHUNK_PIXELS // (size[0] * size[1]), 1)
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        yield part, resize_masks(logits[None, part].float(), padded_size, image_size, size)[0]
