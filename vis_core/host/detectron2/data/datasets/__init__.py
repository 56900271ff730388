"""COCO files, and the built-in COCO datasets, which importing this registers."""

from . import builtin  # noqa: F401  (registers the built-in datasets)
from .coco import convert_to_coco_json, load_coco_json
from .register_coco import register_coco_instances

__all__ = ["convert_to_coco_json", "load_coco_json", "register_coco_instances"]
