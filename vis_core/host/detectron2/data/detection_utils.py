"""Pieces that dataset mappers are made of: images, annotations, default augmentations.

An annotation is a dict with ``bbox`` (4 numbers), ``bbox_mode``, ``category_id``, and optionally ``segmentation``
(list of flat polygons, RLE dict or, after transforming, a bitmap), ``keypoints`` and ``iscrowd``. Image sizes are
(height, width).
"""

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, polygons_to_bitmask

from . import transforms as T
from .catalog import MetadataCatalog
from .image_io import convert_image_to_rgb, convert_PIL_to_numpy, read_image

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "check_image_size",
    "check_metadata_consistency",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "read_image",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
]


class SizeMismatchError(ValueError):
    """The loaded image does not have the size that its record states."""


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Compare a record's ``width`` and ``height`` with the image, or fill them in where they are missing.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    stated = (dataset_dict.get("height", height), dataset_dict.get("width", width))
    if stated != (height, width):
        raise SizeMismatchError(
            f"{dataset_dict.get('file_name', 'image')}: the record says (height, width) {stated}, "
            f"the image has {(height, width)}"
        )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def _transform_segmentation(segmentation, transforms: T.Transform, image_size: tuple[int, int]):
    if isinstance(segmentation, list):
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
        return [p.reshape(-1) for p in transforms.apply_polygons(polygons)]
    if isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        assert mask.shape[:2] == tuple(image_size), f"the mask became {mask.shape[:2]}, the image {image_size}"
        return mask
    raise ValueError(
        f"segmentation is a {type(segmentation).__name__}; it must be a list of polygons or an RLE dict, "
        "and a bitmap has to be run-length encoded with pycocotools.mask.encode(np.asfortranarray(mask))"
    )


def transform_instance_annotations(
    annotation: dict, transforms, image_size: tuple[int, int], *, keypoint_hflip_indices=None
) -> dict:
    """Transform box, segmentation and keypoints of one annotation, in place.

    Args:
        transforms: a transform or a list of them.
        image_size: (height, width) after the transforms.
        keypoint_hflip_indices: permutation of the keypoints under a horizontal flip.

    Returns:
        The same dict: ``bbox`` XYXY_ABS array clipped to the image, polygons as flat float64 arrays, RLE as an
        (H, W) uint8 bitmap.
    """
    if isinstance(transforms, tuple | list):
        transforms = T.TransformList(transforms)
    height, width = image_size
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    # floating even for whole numbers: transforms write into the array they are given
    box = transforms.apply_box(np.array([box], dtype=np.float64))[0].clip(min=0)
    annotation["bbox"] = np.minimum(box, [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(annotation["segmentation"], transforms, image_size)
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def transform_keypoint_annotations(
    keypoints: list[float], transforms, image_size: tuple[int, int], keypoint_hflip_indices=None
) -> np.ndarray:
    """Transform the keypoints of one annotation.

    Args:
        keypoints: flat x, y, visibility triples (0 not labelled, 1 hidden, 2 visible).
        keypoint_hflip_indices: (K,) permutation applied when the transforms flip horizontally an odd number of times.

    Returns:
        (K, 3) float64. A point that left the image, or was not labelled, becomes (0, 0, 0).
    """
    points = np.asarray(keypoints, dtype="float64").reshape(-1, 3)
    xy, visibility = transforms.apply_coords(points[:, :2].copy()), points[:, 2:]
    height, width = image_size
    inside = ((xy >= 0) & (xy <= [width, height])).all(axis=1, keepdims=True)
    points = np.concatenate([xy, visibility], axis=1)
    steps = transforms.transforms if isinstance(transforms, T.TransformList) else [transforms]
    if sum(isinstance(t, T.HFlipTransform) for t in steps) % 2 == 1:
        if keypoint_hflip_indices is None:
            raise ValueError("flipping keypoints needs keypoint_hflip_indices: left and right parts change places")
        order = np.asarray(keypoint_hflip_indices, dtype=np.int64)
        if len(order) != len(points):
            raise ValueError(f"the annotation has {len(points)} keypoints, keypoint_hflip_indices {len(order)}")
        points, inside, visibility = points[order], inside[order], visibility[order]
    return points * (inside & (visibility > 0))


def _masks_from(segmentations: list, image_size: tuple[int, int], mask_format: str) -> PolygonMasks | BitMasks:
    if mask_format == "polygon":
        try:
            return PolygonMasks(segmentations)
        except ValueError as e:
            raise ValueError("mask_format 'polygon' needs polygons; for bitmaps and RLE use 'bitmask'") from e
    assert mask_format == "bitmask", f"mask_format must be 'polygon' or 'bitmask', got '{mask_format}'"
    masks = []
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            masks.append(polygons_to_bitmask(segmentation, *image_size))
        elif isinstance(segmentation, dict):
            masks.append(mask_util.decode(segmentation))
        elif isinstance(segmentation, np.ndarray):
            assert segmentation.ndim == 2, f"a bitmap must be (H, W), got {segmentation.shape}"
            masks.append(segmentation)
        else:
            raise ValueError(f"a {type(segmentation).__name__} is no segmentation: polygons, RLE dict or (H, W) bitmap")
    return BitMasks(torch.stack([torch.from_numpy(np.ascontiguousarray(m).astype(bool)) for m in masks]))


def annotations_to_instances(annos: list[dict], image_size: tuple[int, int], mask_format: str = "polygon") -> Instances:
    """Transformed annotations of one image -> what models train on.

    Args:
        image_size: (height, width).
        mask_format: "polygon" or "bitmask"; the latter takes polygons, RLE and bitmaps.

    Returns:
        Instances with ``gt_boxes`` (Boxes), ``gt_classes`` (int64) and, if the first annotation has a segmentation,
        ``gt_masks`` (PolygonMasks or BitMasks).
    """
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annos]
    target = Instances(image_size)
    target.gt_boxes = Boxes(np.stack(boxes) if boxes else np.zeros((0, 4)))
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        target.gt_masks = _masks_from([a["segmentation"] for a in annos], image_size, mask_format)
    if annos and "keypoints" in annos[0]:
        raise ImportError("keypoints are not in the bundled subset of detectron2: remove them or install the official")
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
):
    """Drop instances without a box (sides not above ``box_threshold``) or without a mask.

    Returns:
        The remaining instances; with ``return_mask`` also the (N,) bool tensor of those that were kept.
    """
    assert by_box or by_mask, "nothing to filter by"
    conditions = []
    if by_box:
        conditions.append(instances.gt_boxes.nonempty(threshold=box_threshold))
    if by_mask and instances.has("gt_masks"):
        conditions.append(instances.gt_masks.nonempty())
    if not conditions:
        return (instances, torch.ones(len(instances), dtype=torch.bool)) if return_mask else instances
    keep = torch.stack(conditions).all(dim=0)
    return (instances[keep], keep) if return_mask else instances[keep]


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict
) -> T.CropTransform:
    """A random crop of ``crop_size`` (height, width) that contains the centre of the annotation's box.

    Raises:
        AssertionError: the crop is larger than the image, or the centre lies outside the image.
    """
    crop_size = np.asarray(crop_size, dtype=np.int32)
    image_size = np.asarray(image_size, dtype=np.int32)
    x0, y0, x1, y1 = BoxMode.convert(instance["bbox"], instance["bbox_mode"], BoxMode.XYXY_ABS)
    center = np.array([(y0 + y1) / 2, (x0 + x1) / 2])
    assert (center >= 0).all() and (center <= image_size).all(), f"the box's centre {center} lies outside the image"
    assert (crop_size <= image_size).all(), f"a crop of {crop_size} does not fit into {image_size}"
    lowest = np.maximum(np.floor(center).astype(np.int32) - crop_size, 0)
    highest = np.minimum(image_size - crop_size, np.ceil(center).astype(np.int32))
    crop_y = np.random.randint(lowest[0], highest[0] + 1)
    crop_x = np.random.randint(lowest[1], highest[1] + 1)
    return T.CropTransform(int(crop_x), int(crop_y), int(crop_size[1]), int(crop_size[0]))


def check_metadata_consistency(key: str, dataset_names: list[str]) -> None:
    """All datasets must have the same metadata ``key``.

    Raises:
        AttributeError: a dataset lacks it.
        ValueError: two datasets differ.
    """
    if not dataset_names:
        return
    values = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values):
        if value != values[0]:
            raise ValueError(f"datasets '{dataset_names[0]}' and '{name}' differ in '{key}': {values[0]} and {value}")


def build_augmentation(cfg, is_train: bool) -> list[T.Augmentation]:
    """Default augmentations: resizing by INPUT.MIN_SIZE_*, and for training the flip of INPUT.RANDOM_FLIP."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    augmentation: list[T.Augmentation] = [
        T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    ]
    if cfg.INPUT.RANDOM_FLIP != "none":
        augmentation.append(
            T.RandomFlip(horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal", vertical=cfg.INPUT.RANDOM_FLIP == "vertical")
        )
    return augmentation
