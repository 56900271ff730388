"""Reading annotation files: json, its kind, its categories. Every complaint names the file and the field."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import NoReturn

from vis_core.errors import DataError
from vis_core.json_file import read_json


def read_annotation_file(json_file: str | Path, kind: str) -> dict:
    """Contents of a YouTube-VIS style (``kind`` "ytvis") or COCO style (``kind`` "coco") file.

    Raises:
        DataError: the file is missing, is not json, or is of the other kind.
    """
    path = Path(json_file)
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object with 'categories', found a {type(data).__name__}")
    wanted, other = ("videos", "images") if kind == "ytvis" else ("images", "videos")
    if not isinstance(data.get(wanted), list):
        hint = ""
        if isinstance(data.get(other), list):
            hint = (
                " (it has 'images': a COCO file? vis data convert makes videos of it, register_coco_video takes images)"
                if kind == "ytvis"
                else " (it has 'videos': a YouTube-VIS file? register it with register_ytvis)"
            )
        raise DataError(f"{path}: field '{wanted}' is missing{hint}")
    return data


def read_categories(path: str | Path, data: dict) -> dict[int, str]:
    """Category id -> name, ascending by id."""
    categories = data.get("categories")
    if not isinstance(categories, list) or not categories:
        raise DataError(f"{path}: field 'categories' is missing or empty (a meta.json is not an annotation file)")
    names = {}
    for entry in categories:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or "name" not in entry:
            raise DataError(f"{path}: field 'categories': {entry!r} has no integer 'id' or no 'name'")
        if entry["id"] in names:
            raise DataError(f"{path}: field 'categories': id {entry['id']} occurs twice")
        names[entry["id"]] = str(entry["name"])
    return dict(sorted(names.items()))


def read_annotations(path: str | Path, data: dict) -> list[dict]:
    """The field "annotations", empty where it is missing or null. Raises DataError unless it is a list of objects."""
    annotations = data.get("annotations")
    if annotations is None:
        return []
    if not isinstance(annotations, list):
        fail(str(path), "annotations", f"expected a list, found a {type(annotations).__name__}")
    for annotation in annotations:
        if not isinstance(annotation, dict):
            fail(str(path), "annotations", f"entry {str(annotation)[:80]} is not an object")
    return annotations


def is_key_of(value: object, entries: Mapping) -> bool:
    """Whether ``value``, whatever a json may hold (a list cannot be looked up), is a key of ``entries``."""
    return isinstance(value, Hashable) and value in entries


def integer_field(where: str, entry: dict, field: str, positive: bool = True) -> int:
    """``entry[field]`` as an integer; ids may be 0 or less (``positive=False``). Raises DataError for anything else."""
    value = entry.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or (positive and value <= 0):
        fail(where, field, f"expected {'a positive' if positive else 'an'} integer, found {value!r}")
    return value


def fail(where: str, field: str, problem: str) -> NoReturn:
    raise DataError(f"{where}, field '{field}': {problem}")
