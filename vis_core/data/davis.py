"""DAVIS as it is downloaded: a folder of frames and a folder of palette PNGs for each video, and a list of the videos.

The records are those of records.py. Every object is of the one class; its track id is its label. Void pixels (label
255) are a crowd region: nothing is trained on them, and the evaluation leaves them out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

from vis_core.data.label_maps import VOID, read_label_map
from vis_core.data.masks import box_of_mask
from vis_core.data.paths import below
from vis_core.errors import DataError
from vis_core.tube import encode_masks

logger = logging.getLogger(__name__)
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
# Folders of the official archive below its root, masks of the unsupervised task first.
VIDEO_LIST = "ImageSets/2017/{split}.txt"
FRAMES = "JPEGImages/480p"
MASKS = ("Annotations_unsupervised/480p", "Annotations/480p")


@dataclass(frozen=True)
class DavisFolders:
    """Where one split lies: a text file with a video name per line, the folder of the videos' frames and of their masks
    (None: no ground truth)."""

    video_list: Path
    frames: Path
    masks: Path | None

    @classmethod
    def find(cls, root: Path, split: str) -> DavisFolders | None:
        """Those of ``split`` in the official archive unpacked at ``root``; None if it is not there."""
        video_list, frames = root / VIDEO_LIST.format(split=split), root / FRAMES
        if not video_list.is_file() or not frames.is_dir():
            return None
        return cls(video_list, frames, next((root / masks for masks in MASKS if (root / masks).is_dir()), None))


def load_davis(folders: DavisFolders) -> list[dict]:
    """Records in the order of the list, video ids from 1.

    A frame without a mask file has no objects. Reads every mask file.

    Raises:
        DataError: a folder or file of the list that is missing or cannot be used.
    """
    try:
        names = folders.video_list.read_text(encoding="utf-8-sig").split()
    except OSError as e:
        raise DataError(f"{folders.video_list}: cannot be read ({e.strerror})") from e
    if not names:
        raise DataError(f"{folders.video_list}: names no video")
    for name in names:
        below(folders.frames, name, str(folders.video_list), "video name")
    records = [_record(folders, name, video_id) for video_id, name in enumerate(names, start=1)]
    logger.info("%s: %d videos, masks from %s", folders.video_list, len(records), folders.masks)
    return records


def _record(folders: DavisFolders, name: str, video_id: int) -> dict:
    folder = folders.frames / name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, but {folders.video_list} names the video")
    frames = sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
    if not frames:
        raise DataError(f"{folder}: holds no frame ({', '.join(FRAME_SUFFIXES)})")
    with Image.open(frames[0]) as image:
        width, height = image.size
    annotations = [[] for _ in frames]
    if folders.masks is not None:
        for objects, frame in zip(annotations, frames):
            path = folders.masks / name / f"{frame.stem}.png"
            if path.is_file():
                objects.extend(_objects(path, height, width))
    return {
        "file_names": [str(path) for path in frames],
        "height": height,
        "width": width,
        "length": len(frames),
        "video_id": video_id,
        "annotations": annotations,
    }


def _objects(path: Path, height: int, width: int) -> list[dict]:
    labels = read_label_map(path)
    if labels.shape != (height, width):
        raise DataError(f"{path}: height and width are {list(labels.shape)}, the frames' are [{height}, {width}]")
    present = [int(label) for label in np.unique(labels) if label != 0]
    masks = labels[None] == np.array(present, dtype=np.uint8)[:, None, None]  # (N, H, W)
    return [
        {
            "iscrowd": int(label == VOID),
            "category_id": 0,
            "id": label,
            "bbox": box_of_mask(rle),
            "bbox_mode": BoxMode.XYWH_ABS,
            "segmentation": rle,
        }
        for label, rle in zip(present, encode_masks(masks))
    ]
