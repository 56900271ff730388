"""COCO's json format: reading it into records, and writing records in it."""

import datetime
import json
import logging
import os
from collections import defaultdict

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import Boxes, BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["convert_to_coco_dict", "convert_to_coco_json", "load_coco_json"]

logger = logging.getLogger(__name__)


# ---- reading


def _set_category_metadata(dataset_name: str, categories: list[dict]) -> dict[int, int]:
    """Number the categories 0, 1, ... in the order of their ids, and note that in the dataset's metadata."""
    categories = sorted(categories, key=lambda c: c["id"])
    id_map = {c["id"]: i for i, c in enumerate(categories)}
    MetadataCatalog.get(dataset_name).set(
        thing_classes=[c["name"] for c in categories], thing_dataset_id_to_contiguous_id=id_map
    )
    if list(id_map) != list(range(1, len(id_map) + 1)):
        logger.info("category ids of '%s' are not 1 to %d: they are mapped to 0, 1, ...", dataset_name, len(id_map))
    return id_map


def _usable_segmentation(segmentation: dict | list) -> dict | list | None:
    """Compressed RLE, or the polygons that have an even number of at least 6 coordinates; None if none is left."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return mask_util.frPyObjects(segmentation, *segmentation["size"])
        return segmentation
    return [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6] or None


def _load_annotation(annotation: dict, keys: list[str], id_map: dict[int, int] | None) -> dict | None:
    """One COCO annotation -> annotation of a record; None if it has a segmentation but no usable one.

    Raises:
        ValueError: the box is empty. KeyError: the category is not in ``id_map``.
    """
    if annotation.get("ignore", 0) != 0:
        raise ValueError(f"annotation {annotation.get('id')}: 'ignore' is not COCO's format")
    if annotation.get("bbox") == []:
        raise ValueError(f"annotation {annotation.get('id')} has an empty 'bbox'")
    result = {key: annotation[key] for key in keys if key in annotation}
    if annotation.get("segmentation"):
        result["segmentation"] = _usable_segmentation(annotation["segmentation"])
        if result["segmentation"] is None:
            return None
    if result.get("keypoints"):
        # COCO's keypoints are pixel indices; half a pixel further lies the pixel's centre
        result["keypoints"] = [v + 0.5 if i % 3 < 2 else v for i, v in enumerate(result["keypoints"])]
    result["bbox_mode"] = BoxMode.XYWH_ABS
    if id_map is not None:
        if result["category_id"] not in id_map:
            raise KeyError(f"annotation {annotation.get('id')} has category_id {result['category_id']}, of no category")
        result["category_id"] = id_map[result["category_id"]]
    return result


def load_coco_json(
    json_file: str, image_root: str, dataset_name: str | None = None, extra_annotation_keys: list[str] | None = None
) -> list[dict]:
    """Read a COCO instance annotation file.

    Args:
        json_file: the file.
        image_root: folder that its ``file_name`` entries are relative to.
        dataset_name: with a name, category ids become contiguous (0, 1, ... in the order of the ids), and the
            metadata gets ``thing_classes`` and ``thing_dataset_id_to_contiguous_id``; without, ids stay.
        extra_annotation_keys: keys of annotations to copy beyond iscrowd, bbox, keypoints and category_id.

    Returns:
        One record per image, ordered by image id: file_name, height, width, image_id, annotations. Instances without
        any valid polygon are left out.
    """
    with open(PathManager.get_local_path(json_file), encoding="utf-8-sig") as f:
        content = json.load(f)
    id_map = None if dataset_name is None else _set_category_metadata(dataset_name, content.get("categories", []))
    annotations = content.get("annotations", [])
    # COCO's own "minival" files of 2014 repeat ids, and nothing depends on them there
    if "minival" not in os.path.basename(json_file):
        ids = [a["id"] for a in annotations]
        assert len(set(ids)) == len(ids), f"{json_file}: annotation ids are not unique"

    keys = ["iscrowd", "bbox", "keypoints", "category_id", *(extra_annotation_keys or [])]
    per_image = defaultdict(list)
    dropped = 0
    for annotation in annotations:
        loaded = _load_annotation(annotation, keys, id_map)
        if loaded is None:
            dropped += 1
        else:
            per_image[annotation["image_id"]].append(loaded)
    if dropped:
        logger.warning("%s: %d instances without a valid polygon are left out", json_file, dropped)

    images = sorted(content["images"], key=lambda image: image["id"])
    logger.info("Loaded %d images in COCO format from %s", len(images), json_file)
    return [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": per_image.get(image["id"], []),
        }
        for image in images
    ]


# ---- writing


def _area(annotation: dict, xywh: list[float]) -> float:
    """Area of the segmentation, of the box where there is none."""
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        return float(Boxes([BoxMode.convert(xywh, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)]).area()[0])
    if isinstance(segmentation, list):
        return float(PolygonMasks([segmentation]).area()[0])
    return float(mask_util.area(segmentation))


def _to_coco_annotation(annotation: dict, annotation_id: int, image_id: int, category_id: int) -> dict:
    xywh = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
    xywh = np.asarray(xywh, dtype=float).tolist()
    result = {
        "id": annotation_id,
        "image_id": image_id,
        "bbox": [round(v, 3) for v in xywh],
        "area": _area(annotation, xywh),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "category_id": int(category_id),
    }
    if "keypoints" in annotation:
        points = list(annotation["keypoints"])
        result["keypoints"] = [v - 0.5 if i % 3 < 2 else v for i, v in enumerate(points)]
        result["num_keypoints"] = sum(v > 0 for v in points[2::3])
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], bytes):
        segmentation = {**segmentation, "counts": segmentation["counts"].decode("ascii")}
    if segmentation is not None:
        result["segmentation"] = segmentation
    return result


def convert_to_coco_dict(dataset_name: str) -> dict:
    """A registered dataset in COCO's format: a dict with info, images, categories, annotations.

    Category ids are those of the original file where the metadata knows them
    (``thing_dataset_id_to_contiguous_id``), the contiguous ones otherwise.
    """
    metadata = MetadataCatalog.get(dataset_name)
    original_id = {i: id for id, i in (metadata.get("thing_dataset_id_to_contiguous_id") or {}).items()}
    images, annotations = [], []
    for index, record in enumerate(DatasetCatalog.get(dataset_name)):
        image_id = record.get("image_id", index)
        images.append(
            {
                "id": image_id,
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": str(record["file_name"]),
            }
        )
        for annotation in record.get("annotations", []):
            category_id = original_id.get(annotation["category_id"], annotation["category_id"])
            annotations.append(_to_coco_annotation(annotation, len(annotations) + 1, image_id, category_id))
    categories = [{"id": original_id.get(i, i), "name": name} for i, name in enumerate(metadata.thing_classes)]
    info = {
        "date_created": str(datetime.datetime.now()),
        "description": f"Dataset '{dataset_name}', converted to COCO's format",
    }
    result = {"info": info, "images": images, "categories": categories, "licenses": None}
    if annotations:
        result["annotations"] = annotations
    return result


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered dataset as a COCO json file, complete or not at all.

    Args:
        allow_cached: keep the file if it is there already; it may then belong to an older state of the dataset.
    """
    folder = os.path.dirname(output_file)
    if folder:
        PathManager.mkdirs(folder)
    with file_lock(output_file):
        if allow_cached and PathManager.exists(output_file):
            logger.warning("'%s' is there already and is used; remove it if the dataset has changed", output_file)
            return
        content = convert_to_coco_dict(dataset_name)
        temporary = output_file + ".tmp"
        with PathManager.open(temporary, "w") as f:
            json.dump(content, f)
        os.replace(temporary, output_file)
