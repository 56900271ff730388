"""The public data sets under their usual names, and where their files may lie.

Downloads, and the repositories of the field, disagree about file and folder names. Below ``$DETECTRON2_DATASETS``
(default ``datasets``) the known places are tried in order when a data set is first used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog

from vis_core.data import categories as lists
from vis_core.data.catalog import register_coco_files, register_davis_files, register_ytvis_files
from vis_core.data.categories import Categories
from vis_core.data.datasets_root import datasets_root
from vis_core.data.davis import DavisFolders, load_davis
from vis_core.data.records import load_ytvis_json
from vis_core.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Places of one split's json and image folder, most usual first, relative to the data sets' root."""

    json_files: tuple[str, ...]
    image_roots: tuple[str, ...]
    categories: Categories
    class_map: Mapping[int, int] | None = None  # of COCO images
    mask_field: str = "segmentations"
    evaluation_tasks: tuple[str, ...] | None = None
    davis: str | None = None  # name of the split in an unpacked DAVIS archive, which goes before json files


def find_files(name: str, split: Split, root: Path) -> tuple[Path, Path]:
    """(json file, image folder) of a split: the first of its places that exists, each for itself.

    Raises:
        DataError: lists the places tried.
    """
    json_file = _first(name, "annotation file", split.json_files, root)
    image_root = _first(name, "image folder", split.image_roots, root)
    logger.info("%s: annotations from %s, images from %s", name, json_file, image_root)
    return json_file, image_root


def _first(name: str, what: str, places: tuple[str, ...], root: Path) -> Path:
    for place in places:
        if (root / place).exists():
            return root / place
    raise DataError(f"{name}: no {what} found under {root.absolute()}; tried {', '.join(places)}")


def _ytvis(year: int, split: str, folders: tuple[str, ...], categories: Categories) -> Split:
    """``split``: "train", "valid" or "test"; some call the second one "val"."""
    short = split.replace("valid", "val")
    spellings = dict.fromkeys((split, short))
    json_files, image_roots = [], []
    for folder in folders:
        json_files += [f"{folder}/{s}.json" for s in spellings]
        json_files += [f"{folder}/{s}/instances.json" for s in spellings]
        json_files += [f"{folder}/annotations/{s}.json" for s in spellings]
        json_files += [f"{folder}/annotations/instances_{short}_sub.json", f"{folder}/instances_{short}_sub.json"]
        image_roots += [f"{folder}/{s}/JPEGImages" for s in spellings]
    if year in (2019, 2021):  # the layout of Propose-Reduce
        json_files.append(f"{split}_ytv{year % 100}.json")
        image_roots.append(f"{short}set_ytv{year % 100}")
    return Split(tuple(json_files), tuple(image_roots), categories)


def _ovis(split: str) -> Split:
    spellings = tuple(dict.fromkeys((split, split.replace("valid", "val"))))
    patterns = ("ovis/annotations/{}.json", "ovis/annotations/annotations_{}.json", "ovis/annotations_{}.json")
    return Split(
        tuple(pattern.format(s) for pattern in patterns for s in spellings),
        tuple(f"ovis/{s}" for s in spellings),
        lists.OVIS,
    )


def _hq_ytvis(split: str) -> Split:
    """All three splits are cut from the training videos of YouTube-VIS 2019."""
    folders = ("hq_ytvis", "hq_ytvis/annotations", "ytvis_2019/annotations", "ytvis_2019", "ytvis/annotations")
    return Split(
        tuple(f"{folder}/ytvis_hq-{split}.json" for folder in folders),
        ("hq_ytvis/train/JPEGImages", "ytvis_2019/train/JPEGImages", "ytvis/train/JPEGImages"),
        lists.YTVIS_2019,
        mask_field="segmentations_refined",
        evaluation_tasks=("tube_mask", "tube_boundary"),
    )


DAVIS_ROOTS = ("DAVIS", "davis", "davis2017")


def _davis(split: str) -> Split:
    """Unsupervised DAVIS 2017 at 480p; the annotation files come from the authors of Propose-Reduce."""
    return Split(
        (f"davis/{split}_davis.json", f"{split}_davis.json"),
        ("davis/trainvalset_davis", "trainvalset_davis", "davis/JPEGImages/480p"),
        lists.DAVIS,
        davis=split.replace("valid", "val"),
    )


def load_davis_split(name: str, split: Split, root: Path) -> list[dict]:
    """Records of the first archive below one of ``DAVIS_ROOTS``, or else of the split's json file.

    Raises:
        DataError: lists the places tried.
    """
    for folder in DAVIS_ROOTS:
        folders = DavisFolders.find(root / folder, split.davis)
        if folders is not None:
            logger.info("%s: videos of %s, frames from %s", name, folders.video_list, folders.frames)
            return load_davis(folders)
    try:
        json_file, image_root = find_files(name, split, root)
    except DataError as e:
        raise DataError(f"{e}, and an unpacked archive in {', '.join(DAVIS_ROOTS)}") from e
    return load_ytvis_json(json_file, image_root, name)


def _coco(target: str, split: str, categories: Categories, to_target: Mapping[int, int]) -> Split:
    """A file reduced to the shared classes, or COCO's own: it is reduced while it is read in either case."""
    return Split(
        (f"coco/annotations/coco2{target}_{split}.json", f"coco/annotations/instances_{split}2017.json"),
        (f"coco/{split}2017",),
        categories,
        class_map={coco_id: target_id - 1 for coco_id, target_id in to_target.items()},
    )


def _builtin_splits() -> dict[str, Split]:
    splits = {}
    for short, split in (("train", "train"), ("val", "valid"), ("test", "test")):
        splits[f"ytvis_2019_{short}"] = _ytvis(2019, split, ("ytvis_2019", "youtube_vis_2019"), lists.YTVIS_2019)
        splits[f"ytvis_2021_{short}"] = _ytvis(2021, split, ("ytvis_2021", "youtube_vis_2021"), lists.YTVIS_2021)
        # 2022 has the training videos of 2021.
        folders = ("ytvis_2021", "youtube_vis_2021", "ytvis_2022") if short == "train" else ("ytvis_2022",)
        splits[f"ytvis_2022_{short}"] = _ytvis(2022, split, folders, lists.YTVIS_2021)
        splits[f"ovis_{short}"] = _ovis(split)
        splits[f"hq_ytvis_{short}"] = _hq_ytvis(short)
    splits["ytvis_2019_val_all_frames"] = Split(
        ("ytvis_2019/valid_all_frames.json",), ("ytvis_2019/valid_all_frames/JPEGImages",), lists.YTVIS_2019
    )
    for short, split in (("train", "train"), ("val", "valid")):
        splits[f"davis_uvos_{short}"] = _davis(split)
        splits[f"coco2ytvis2019_{short}"] = _coco("ytvis2019", short, lists.YTVIS_2019, lists.COCO_TO_YTVIS_2019)
        splits[f"coco2ytvis2021_{short}"] = _coco("ytvis2021", short, lists.YTVIS_2021, lists.COCO_TO_YTVIS_2021)
        # Whatever it is, it is an instance.
        splits[f"coco2davis_{short}"] = _coco("davis", short, lists.DAVIS, {coco_id: 1 for coco_id in range(1, 91)})
        splits[f"coco2ovis_{short}"] = _coco("ovis", short, lists.OVIS, lists.COCO_TO_OVIS)
    return splits


BUILTIN_SPLITS = _builtin_splits()


def register_builtin() -> None:
    """Register all of ``BUILTIN_SPLITS``, except names that somebody has taken already. Touches no file."""
    for name, split in BUILTIN_SPLITS.items():
        if name in DatasetCatalog:
            continue
        if split.davis is not None:
            register_davis_files(name, _davis_loader(name, split), categories=split.categories)
        elif split.class_map is None:
            register_ytvis_files(
                name,
                _finder(name, split),
                categories=split.categories,
                evaluation_tasks=split.evaluation_tasks,
                mask_field=split.mask_field,
            )
        else:
            register_coco_files(name, _finder(name, split), class_map=split.class_map, categories=split.categories)


def _davis_loader(name: str, split: Split):
    return lambda: load_davis_split(name, split, datasets_root())


def _finder(name: str, split: Split):
    return lambda: find_files(name, split, datasets_root())
