"""Which videos, images and frames are worth training on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

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


def drop_crowded(records: Sequence[dict], max_objects: int, name: str) -> list[dict]:
    """The image records with at most so many objects that are no crowd region (INPUT.PSEUDO.MAX_OBJECTS)."""
    kept = [r for r in records if sum(not obj.get("iscrowd", 0) for obj in r["annotations"]) <= max_objects]
    if len(kept) < len(records):
        logger.info(
            "%s: left out %d of %d images with more than %d objects",
            name,
            len(records) - len(kept),
            len(records),
            max_objects,
        )
    return kept


def annotated_frames(record: dict) -> list[int]:
    """Frames of a video with at least one usable object (MaskTrack R-CNN's rule for key frames)."""
    return [t for t in range(len(record["annotations"])) if usable_objects(record, t)]


def usable_objects(record: dict, frame: int) -> list[dict]:
    """One frame's annotations that are no crowd region and whose box is at least one pixel wide and high and reaches
    into the image."""
    height, width = record["height"], record["width"]
    return [obj for obj in record["annotations"][frame] if not obj.get("iscrowd", 0) and _fits(obj, height, width)]


def _fits(obj: dict, height: int, width: int) -> bool:
    x, y, w, h = obj["bbox"]
    return w >= 1 and h >= 1 and min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
