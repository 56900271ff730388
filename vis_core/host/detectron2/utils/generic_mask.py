"""One mask, whatever it is given as: bitmap, run-length code or polygons."""

from functools import cached_property

import cv2
import numpy as np
import pycocotools.mask as mask_util

__all__ = ["GenericMask"]


def _decode(rle: dict, height: int, width: int) -> np.ndarray:
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, height, width)
    return mask_util.decode(rle)


class GenericMask:
    """A mask as bitmap and as polygons; each is made from the other when it is first asked for.

    Args:
        mask_or_polygons: (H, W) array, COCO RLE dict, or list of flat polygons (x0, y0, x1, y1, ...).
        height, width: of the image.
    """

    def __init__(self, mask_or_polygons, height: int, width: int):
        self.height = height
        self.width = width
        if isinstance(mask_or_polygons, dict):
            mask_or_polygons = _decode(mask_or_polygons, height, width)
        if isinstance(mask_or_polygons, list):
            self.polygons = [np.asarray(p).reshape(-1) for p in mask_or_polygons]
            self.has_holes = False
        elif isinstance(mask_or_polygons, np.ndarray):
            assert mask_or_polygons.shape == (height, width), (
                f"the mask is {mask_or_polygons.shape}, the image {(height, width)}"
            )
            self.mask = mask_or_polygons.astype(np.uint8)
        else:
            raise ValueError(f"a mask is an array, an RLE dict or a list of polygons, not a {type(mask_or_polygons)}")

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, 1 inside."""
        if not self.polygons:
            return np.zeros((self.height, self.width), dtype=np.uint8)
        return mask_util.decode(mask_util.merge(mask_util.frPyObjects(self.polygons, self.height, self.width)))

    @cached_property
    def _outline(self) -> tuple[list[np.ndarray], bool]:
        """Contours, outer ones and those of holes, and whether there are holes."""
        found = cv2.findContours(np.ascontiguousarray(self.mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        contours, hierarchy = found[-2:]
        if hierarchy is None:  # an empty mask
            return [], False
        # contours run through pixel indices; half a pixel further are the pixels' centres
        polygons = [c.reshape(-1) + 0.5 for c in contours if c.size >= 6]
        parents = hierarchy.reshape(-1, 4)[:, 3]  # (contours,); holes have one
        return polygons, bool((parents >= 0).any())

    @cached_property
    def polygons(self) -> list[np.ndarray]:
        """Flat polygons; those of holes are among them."""
        return self._outline[0]

    @cached_property
    def has_holes(self) -> bool:
        """Whether polygons alone cannot show the mask."""
        return self._outline[1]

    def area(self) -> int:
        """Pixels inside."""
        return self.mask.sum()

    def bbox(self) -> np.ndarray:
        """(x0, y0, x1, y1) of the rasterised polygons, zeros where there are none."""
        if not self.polygons:
            return np.zeros(4)
        rle = mask_util.merge(mask_util.frPyObjects(self.polygons, self.height, self.width))
        x, y, w, h = mask_util.toBbox(rle)
        return np.array([x, y, x + w, y + h])
