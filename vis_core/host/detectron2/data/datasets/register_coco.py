"""Registering datasets that are annotated in COCO's json format."""

import os

from ..catalog import DatasetCatalog, MetadataCatalog
from .coco import load_coco_json

__all__ = ["register_coco_instances"]


def register_coco_instances(name: str, metadata: dict, json_file: str, image_root: str) -> None:
    """Register a COCO-format dataset under ``name``; the file is read when the dataset is asked for.

    Args:
        metadata: facts to attach, such as ``thing_classes``; may be empty.
        json_file: the annotation file.
        image_root: folder that the file's ``file_name`` entries are relative to.
    """
    assert isinstance(name, str), f"the name must be a string, got {name!r}"
    assert isinstance(json_file, str | os.PathLike), f"json_file must be a path, got {json_file!r}"
    assert isinstance(image_root, str | os.PathLike), f"image_root must be a path, got {image_root!r}"
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
