"""From mask logits at stride 4 to masks of the video's own size.

Shapes: N masks, (h, w) logits, (H, W) the video's own size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vis_core.modeling.mask_resizing import resized_in_chunks


def masks_in_chunks(
    logits: torch.Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Masks at the video's size, a few at a time.

    Args:
        logits, padded_size, image_size, size: see :func:`vis_core.modeling.mask_resizing.resize_masks`.

    Yields:
        Which of the N these are, the masks (n, H, W) bool, the sum (n,) of the foreground probability over their
        pixels, and the number (n,) of these.
    """
    for part, enlarged in resized_in_chunks(logits, padded_size, image_size, size):
        masks = enlarged > 0
        num_pixels = torch.stack([mask.count_nonzero() for mask in masks])  # on a CPU much faster than sum(dim)
        # Sums sigmoid(x) where x > 0: elsewhere sigmoid(0) - 0.5 = 0 is added.
        confidence = enlarged.clamp_(min=0).sigmoid_().sub_(0.5).flatten(1).sum(dim=1) + 0.5 * num_pixels
        yield part, masks, confidence, num_pixels
