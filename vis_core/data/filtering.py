"""Which videos, images and frames are worth training on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

logger = logging.getLogger(__name__)


def is_video(record: dict) -> bool:
    """Whether a record is a video's (one list of annotations a frame) or an image's (one list)."""
    return "file_names" in record


def has_object(record: dict) -> bool:
    """Whether any frame of a record shows an object that is not a crowd region."""
    frames = record["annotations"] if is_video(record) else [record["annotations"]]
    return any(not obj.get("iscrowd", 0) for objects in frames for obj in objects)


def drop_empty(records: Sequence[dict], name: str) -> list[dict]:
    """The records that have an object (DATALOADER.FILTER_EMPTY_ANNOTATIONS)."""
    kept = [record for record in records if has_object(record)]
    if len(kept) < len(records):
        logger.info("%s: left out %d of %d records without objects", name, len(records) - len(kept), len(records))
    return kept


def annotated_frames(record: dict) -> list[int]:
    """Frames with at least one usable object: not a crowd region, its box at least one pixel wide and high and
    reaching into the image (MaskTrack R-CNN's rule for key frames)."""
    height, width = record["height"], record["width"]
    return [t for t, objects in enumerate(record["annotations"]) if _any_usable(objects, height, width)]


def _any_usable(objects: Iterable[dict], height: int, width: int) -> bool:
    for obj in objects:
        x, y, w, h = obj["bbox"]
        if obj.get("iscrowd", 0) or w < 1 or h < 1:
            continue
        if min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0):
            return True
    return False
