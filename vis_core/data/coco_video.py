"""COCO style json -> image records, for clips made from single images.

A record is ``{"file_name", "height", "width", "image_id", "annotations": [...]}``, its annotations as in records.py but
without track ids. Classes are mapped to those of the target data set here, once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from detectron2.structures import BoxMode

from vis_core.data.annotation_file import (
    fail,
    integer_field,
    is_key_of,
    read_annotation_file,
    read_annotations,
    read_categories,
)
from vis_core.data.filtering import has_object
from vis_core.data.masks import box_of_mask, checked_box, checked_mask
from vis_core.data.metadata import set_categories
from vis_core.data.paths import below

logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str | Path,
    image_root: str | Path,
    dataset_name: str | None = None,
    class_map: Mapping[int, int] | None = None,
) -> list[dict]:
    """Records in ascending image id.

    Args:
        class_map: category id -> contiguous class of the target data set. Objects of other categories are dropped, and
            images without any object left (or none to begin with) with them. None: the file's own categories, all
            images.
        dataset_name: whose metadata get the file's categories; only without ``class_map``.

    Raises:
        DataError: names file, image id, annotation id and field of the first thing that cannot be used.
    """
    json_file = str(json_file)
    data = read_annotation_file(json_file, "coco")
    categories = read_categories(json_file, data)
    if class_map is None:
        class_map = {category_id: i for i, category_id in enumerate(categories)}
        drop_images = False
        if dataset_name is not None:
            set_categories(dataset_name, json_file, categories)
    else:
        drop_images = True

    records = {}
    for image in data["images"]:
        record = _image_record(json_file, image, str(image_root))
        if record["image_id"] in records:
            fail(f"{json_file}: image {record['image_id']}", "id", "occurs twice")
        records[record["image_id"]] = record
    dropped = 0
    seen: set[int] = set()
    for annotation in read_annotations(json_file, data):
        dropped += _add_object(json_file, annotation, records, categories, class_map, seen)
    if dropped:
        logger.warning("%s: skipped %d objects without a mask that can be drawn", json_file, dropped)
    kept = [records[image_id] for image_id in sorted(records) if not drop_images or has_object(records[image_id])]
    logger.info("%s: %d images, %d of them used", json_file, len(records), len(kept))
    return kept


def _image_record(json_file: str, image: dict, image_root: str) -> dict:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int):
        fail(json_file, "images", f"entry {str(image)[:80]} has no integer 'id'")
    where = f"{json_file}: image {image['id']}"
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        fail(where, "file_name", "is missing")
    return {
        "file_name": below(image_root, name, where, "file_name"),
        "height": integer_field(where, image, "height"),
        "width": integer_field(where, image, "width"),
        "image_id": image["id"],
        "annotations": [],
    }


def _add_object(json_file, annotation, records, categories, class_map, seen) -> int:
    """Add one object to its image's record; returns 1 if it has no mask that can be drawn."""
    object_id, image_id = annotation.get("id"), annotation.get("image_id")
    where = f"{json_file}: image {image_id}, annotation {object_id}"
    if not is_key_of(image_id, records):
        hint = "is missing, but there is a 'video_id': a YouTube-VIS annotation?"
        fail(where, "image_id", hint if "video_id" in annotation else "no such image in this file")
    if not isinstance(object_id, int):
        fail(where, "id", f"expected an integer, found {object_id!r}")
    if object_id in seen:
        fail(where, "id", "occurs twice")
    seen.add(object_id)
    category_id = annotation.get("category_id")
    if not is_key_of(category_id, categories):
        fail(where, "category_id", f"{category_id!r} is not among the file's categories")
    if category_id not in class_map:
        return 0
    record = records[image_id]
    segmentation = annotation.get("segmentation")
    mask = segmentation and checked_mask(where, "segmentation", segmentation, record["height"], record["width"])
    if not mask:
        return 1
    record["annotations"].append(
        {
            "iscrowd": annotation.get("iscrowd", 0),
            "category_id": class_map[category_id],
            "bbox": checked_box(where, "bbox", annotation.get("bbox") or box_of_mask(mask)),
            "bbox_mode": BoxMode.XYWH_ABS,
            "segmentation": mask,
        }
    )
    return 0
