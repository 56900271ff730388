"""Registers the COCO datasets below the folder in the environment variable DETECTRON2_DATASETS (default: datasets)."""

import os

from ..catalog import DatasetCatalog
from .builtin_meta import _get_builtin_metadata
from .register_coco import register_coco_instances

__all__ = ["register_all_coco"]

# name: (image folder, annotation file), relative to the root
_COCO_SPLITS = {
    "coco_2014_train": ("coco/train2014", "coco/annotations/instances_train2014.json"),
    "coco_2014_val": ("coco/val2014", "coco/annotations/instances_val2014.json"),
    "coco_2014_minival": ("coco/val2014", "coco/annotations/instances_minival2014.json"),
    "coco_2014_valminusminival": ("coco/val2014", "coco/annotations/instances_valminusminival2014.json"),
    "coco_2017_train": ("coco/train2017", "coco/annotations/instances_train2017.json"),
    "coco_2017_val": ("coco/val2017", "coco/annotations/instances_val2017.json"),
    "coco_2017_test": ("coco/test2017", "coco/annotations/image_info_test2017.json"),
    "coco_2017_test-dev": ("coco/test2017", "coco/annotations/image_info_test-dev2017.json"),
    "coco_2017_val_100": ("coco/val2017", "coco/annotations/instances_val2017_100.json"),
}


def register_all_coco(root: str) -> None:
    """Register COCO's splits with files below ``root``. Nothing is read, so the files need not exist."""
    for name, (image_root, json_file) in _COCO_SPLITS.items():
        register_coco_instances(
            name, _get_builtin_metadata("coco"), os.path.join(root, json_file), os.path.join(root, image_root)
        )


if "coco_2017_train" not in DatasetCatalog:
    register_all_coco(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets")))
