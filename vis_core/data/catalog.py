"""Registering data sets: one call, any name, nothing guessed from it. Files are read when the data set is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from vis_core.data.categories import DAVIS, Categories
from vis_core.data.coco_video import load_coco_json
from vis_core.data.davis import DavisFolders, load_davis
from vis_core.data.records import load_ytvis_json
from vis_core.errors import ConfigError

Files = tuple[str | Path, str | Path]


def register_ytvis(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    *,
    categories: Categories | None = None,
    evaluation_tasks: Sequence[str] | None = None,
    mask_field: str = "segmentations",
) -> None:
    """Register videos with a YouTube-VIS style json under ``name``.

    Args:
        json_file: "videos", "categories" and, for training and evaluation, "annotations".
        image_root: folder that the json's file names are relative to.
        categories: expected classes; None takes the json's, whatever they are.
        evaluation_tasks: what the evaluator computes (its default: "segm"), for example ("tube_mask", "tube_boundary").
        mask_field: see :func:`vis_core.data.records.load_ytvis_json`.

    Raises ConfigError if the name is taken. What is wrong with the files shows when they are read, as a DataError.

    Example:
        >>> register_ytvis("zebrafish_train", "fish/train.json", "fish/frames")
        >>> cfg.DATASETS.TRAIN = ("zebrafish_train",)
    """
    _set_paths(name, json_file, image_root)
    register_ytvis_files(
        name,
        lambda: (json_file, image_root),
        categories=categories,
        evaluation_tasks=evaluation_tasks,
        mask_field=mask_field,
    )


def register_coco_video(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    *,
    class_map: Mapping[int, int] | None = None,
    categories: Categories | None = None,
) -> None:
    """Register images with a COCO style json under ``name``; training makes pseudo-videos of them.

    Args:
        class_map: COCO category id -> contiguous class of ``categories``, the target's; other objects are dropped.
            None: the json's own categories, which must then be those of the videos trained with.

    Raises ConfigError if the name is taken.
    """
    _set_paths(name, json_file, image_root)
    register_coco_files(name, lambda: (json_file, image_root), class_map=class_map, categories=categories)


def register_ytvis_files(
    name: str,
    find_files: Callable[[], Files],
    *,
    categories: Categories | None = None,
    evaluation_tasks: Sequence[str] | None = None,
    mask_field: str = "segmentations",
) -> None:
    """As :func:`register_ytvis`, with files that are looked for when the data set is used (builtin.py)."""

    def load() -> list[dict]:
        json_file, image_root = _found(name, find_files)
        return load_ytvis_json(json_file, image_root, name, mask_field)

    DatasetCatalog.register(name, load)
    _describe(name, "ytvis", "ytvis", categories)
    if evaluation_tasks is not None:
        MetadataCatalog.get(name).set(evaluation_tasks=tuple(evaluation_tasks))


def register_coco_files(
    name: str,
    find_files: Callable[[], Files],
    *,
    class_map: Mapping[int, int] | None = None,
    categories: Categories | None = None,
) -> None:
    """As :func:`register_coco_video`, with files that are looked for when the data set is used (builtin.py)."""

    def load() -> list[dict]:
        json_file, image_root = _found(name, find_files)
        return load_coco_json(json_file, image_root, name, class_map)

    DatasetCatalog.register(name, load)
    _describe(name, "coco", "coco", categories)


def register_davis(
    name: str, video_list: str | Path, frames: str | Path, masks: str | Path | None, *, categories: Categories = DAVIS
) -> None:
    """Register videos with palette PNG masks, evaluated by J and F, under ``name``.

    Args:
        video_list: text file with the name of a video a line.
        frames, masks: folders that hold a folder for each video, of images and of PNGs with the same names; without
            ``masks`` results can be written but not evaluated.
        categories: their one class.

    Raises ConfigError if the name is taken.
    """
    if name in DatasetCatalog:
        raise ConfigError(f"data set '{name}' is registered already; choose another name")
    folders = DavisFolders(Path(video_list), Path(frames), None if masks is None else Path(masks))
    register_davis_files(name, lambda: load_davis(folders), categories=categories)


def register_davis_files(name: str, load: Callable[[], list[dict]], *, categories: Categories = DAVIS) -> None:
    """As :func:`register_davis`, with records that ``load`` finds when the data set is used (builtin.py)."""
    DatasetCatalog.register(name, load)
    _describe(name, "davis", "davis_uvos", categories)


def _set_paths(name: str, json_file: str | Path, image_root: str | Path) -> None:
    if name in DatasetCatalog:
        raise ConfigError(f"data set '{name}' is registered already; choose another name")
    MetadataCatalog.get(name).set(json_file=str(json_file), image_root=str(image_root))


def _found(name: str, find_files: Callable[[], Files]) -> tuple[str, str]:
    """The files' paths, which the metadata get as well when they are known for the first time."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file") is None:
        json_file, image_root = find_files()
        metadata.set(json_file=str(json_file), image_root=str(image_root))
    return metadata.json_file, metadata.image_root


def _describe(name: str, vis_format: str, evaluator_type: str, categories: Categories | None) -> None:
    metadata = MetadataCatalog.get(name).set(vis_format=vis_format, evaluator_type=evaluator_type)
    if categories is not None:
        metadata.set(
            thing_classes=list(categories.names),
            thing_colors=[list(color) for color in categories.colors],
            thing_dataset_id_to_contiguous_id={category_id: i for i, category_id in enumerate(categories.ids)},
        )
