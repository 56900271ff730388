"""Categories in Detectron2's metadata."""

from __future__ import annotations

from pathlib import Path

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from vis_core.errors import DataError


def set_categories(dataset_name: str, json_file: str | Path, categories: dict[int, str]) -> None:
    """Write ``categories`` ({id: name}, ascending) to the metadata as thing_classes and id map.

    Raises:
        DataError: the data set was registered with other classes (metadata cannot be changed once written).
    """
    metadata = MetadataCatalog.get(dataset_name)
    names = list(categories.values())
    ids = {category_id: i for i, category_id in enumerate(categories)}
    known = metadata.get("thing_classes")
    if known is not None and list(known) != names:
        different = [f"'{a}' not '{b}'" for a, b in zip(names, known) if a != b] or [f"{len(names)} not {len(known)}"]
        raise DataError(
            f"{json_file}, field 'categories': not the classes of '{dataset_name}' ({different[0]}); "
            "data of your own needs a name of its own: register_ytvis(name, json_file, image_root)"
        )
    known_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if known_ids is not None and dict(known_ids) != ids:
        raise DataError(f"{json_file}, field 'categories': not the category ids of '{dataset_name}'")
    if known is None:
        metadata.set(thing_classes=names)
    if known_ids is None:
        metadata.set(thing_dataset_id_to_contiguous_id=ids)


def dataset_metadata(dataset_name: str) -> Metadata:
    """Metadata with thing_classes and json_file there: where they are not known yet, the data set is loaded once.

    DAVIS need not have a json file.
    """
    metadata = MetadataCatalog.get(dataset_name)
    needs_json = metadata.get("vis_format") != "davis"
    if metadata.get("thing_classes") is None or (needs_json and metadata.get("json_file") is None):
        DatasetCatalog.get(dataset_name)
    return metadata
