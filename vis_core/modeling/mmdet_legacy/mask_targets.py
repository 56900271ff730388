"""What the mask head is to predict in a proposal."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from detectron2.structures import BitMasks


class PixelMasks(BitMasks):
    """BitMasks whose :meth:`crop_and_resize` cuts out whole pixels, without interpolating between a box's corners."""

    def __getitem__(self, item) -> PixelMasks:
        return PixelMasks(super().__getitem__(item).tensor)

    def to(self, *args, **kwargs) -> PixelMasks:
        return PixelMasks(self.tensor.to(*args, **kwargs))

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Each mask from its box's first to its last pixel, both cut to whole numbers, bilinear to (N, S, S) bool.

        Args:
            boxes: (N, 4) float, x1 y1 x2 y2, pixels, clipped to the image.
            mask_size: S.
        """
        height, width = self.tensor.shape[1:]
        corners = torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1).cpu().numpy().astype(np.int64)
        corners = corners.clip(0, [width - 1, height - 1, width - 1, height - 1])
        targets = np.zeros((len(boxes), mask_size, mask_size), np.uint8)
        for target, mask, (x1, y1, x2, y2) in zip(targets, self.tensor.cpu().numpy().view(np.uint8), corners):
            crop = mask[y1 : max(y2, y1) + 1, x1 : max(x2, x1) + 1]
            # 8-bit numbers are rounded while they are interpolated: 0 and 1 stay 0 and 1.
            cv2.resize(crop, (mask_size, mask_size), dst=target, interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(targets.astype(bool)).to(self.device)
