"""The objects of a clip as one Instances a frame, rows aligned: row i is the same track in every frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from fvcore.transforms.transform import Transform

from vis_core.errors import ConfigError

BOX_SOURCES = ("mask", "annotation", "pixels")
NOT_VISIBLE = -1
MIN_BOX_SIDE = 1e-5


def clip_instances(
    frames: Sequence[Sequence[dict]],
    transforms: Sequence[Transform],
    input_size: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    num_classes: int,
    box_source: str = "mask",
) -> list[Instances]:
    """Instances of T frames, each with N rows, N the number of tracks in any of them, in order of first appearance.

    Args:
        frames: T lists of annotations (records.py); crowd regions are left out.
        transforms: what was done to each image.
        input_size: (height, width) of the images before.
        sizes: (height, width) of each transformed image.
        num_classes: K; the class of a row whose track has no annotation in the frame.
        box_source: "mask" for tight boxes of the transformed masks, "annotation" for transformed boxes, "pixels" for
            boxes from the transformed first to the transformed last pixel (:func:`pixel_box`).

    Returns:
        T Instances with gt_boxes (N), gt_classes int64 (N,), gt_masks BitMasks (N, H, W), gt_ids int64 (N,);
        gt_ids is -1 where the track is absent, or nothing is left of its mask or box.
    """
    if box_source not in BOX_SOURCES:
        raise ConfigError(f"INPUT.GT_BOXES '{box_source}' is unknown; known: {', '.join(BOX_SOURCES)}")
    frames = [[obj for obj in objects if not obj.get("iscrowd", 0)] for objects in frames]
    tracks = list(dict.fromkeys(obj["id"] for objects in frames for obj in objects))
    rows = {track: row for row, track in enumerate(tracks)}
    return [
        _frame_instances(objects, rows, transform, input_size, size, num_classes, box_source)
        for objects, transform, size in zip(frames, transforms, sizes)
    ]


def _frame_instances(objects, rows, transform, input_size, size, num_classes, box_source) -> Instances:
    n = len(rows)
    masks = np.zeros((n, *size), dtype=bool)
    boxes = np.zeros((n, 4), dtype=np.float32)
    classes = torch.full((n,), num_classes, dtype=torch.int64)
    ids = torch.full((n,), NOT_VISIBLE, dtype=torch.int64)
    has_polygons = any(isinstance(obj["segmentation"], list) for obj in objects)
    picture = picture_area(transform, input_size) if has_polygons else None
    for obj in objects:
        row = rows[obj["id"]]
        masks[row] = transformed_mask(obj["segmentation"], transform, picture)
        classes[row] = obj["category_id"]
        ids[row] = obj["id"]
        if box_source != "mask":
            boxes[row] = (_transformed_box if box_source == "annotation" else pixel_box)(obj, transform, size)

    instances = Instances(size)
    instances.gt_masks = BitMasks(torch.from_numpy(masks))
    instances.gt_boxes = (
        instances.gt_masks.get_bounding_boxes() if box_source == "mask" else Boxes(torch.from_numpy(boxes))
    )
    instances.gt_classes = classes
    visible = instances.gt_masks.nonempty() & instances.gt_boxes.nonempty(MIN_BOX_SIDE)
    instances.gt_ids = torch.where(visible, ids, NOT_VISIBLE)
    return instances


def picture_area(transform: Transform, input_size: tuple[int, int]) -> np.ndarray:
    """Where a transformed image shows anything of the original: uint8 (h, w), 0 or 1."""
    return transform.apply_segmentation(np.ones(input_size, dtype=np.uint8))


def transformed_mask(segmentation: dict | list, transform: Transform, picture: np.ndarray | None) -> np.ndarray:
    """Mask uint8 (h, w), 0 or 1, of a run-length mask or polygons after ``transform``.

    Polygons are transformed by their corners and drawn once, at the end, which is finer than resizing a drawn mask.
    They are then limited to ``picture`` (:func:`picture_area`), since a rotation may bring back what a crop cut off;
    run-length masks do not need it.
    """
    if isinstance(segmentation, dict):
        return transform.apply_segmentation(coco_mask.decode(segmentation))
    parts = [transform.apply_coords(np.array(part, dtype=np.float64).reshape(-1, 2)) for part in segmentation]
    rles = coco_mask.frPyObjects([part.ravel().tolist() for part in parts], *picture.shape)
    return coco_mask.decode(coco_mask.merge(rles)) & picture


def _transformed_box(obj: dict, transform: Transform, size: tuple[int, int]) -> np.ndarray:
    box = BoxMode.convert(obj["bbox"], obj["bbox_mode"], BoxMode.XYXY_ABS)
    box = transform.apply_box(np.array([box], dtype=np.float64))[0]
    return box.clip(min=0).clip(max=[size[1], size[0], size[1], size[0]])


def pixel_box(obj: dict, transform: Transform, size: tuple[int, int]) -> np.ndarray:
    """Box (4,) around an annotation's first and last pixel, after both were moved like points.

    As early mmdetection did it: a frame scaled by f has boxes that are |1 - f| pixels smaller or larger than it should.
    """
    x1, y1, x2, y2 = BoxMode.convert(obj["bbox"], obj["bbox_mode"], BoxMode.XYXY_ABS)
    (ax, ay), (bx, by) = transform.apply_coords(np.array([[x1, y1], [x2 - 1, y2 - 1]], dtype=np.float64))
    # A mirrored pixel extends to the other side of its corner.
    x1, x2 = (ax, bx + 1) if ax <= bx else (bx - 1, ax)
    y1, y2 = (ay, by + 1) if ay <= by else (by - 1, ay)
    height, width = size
    return np.array([x1, y1, x2, y2]).clip(min=[0, 0, 1, 1], max=[width, height, width + 1, height + 1])
