"""All formats by name, and which of them something is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vis_core.data.formats import coco, cvat, labelme, masklets, mots, palette, ytvis
from vis_core.data.formats.labels import Labels, ReadOptions, WriteOptions
from vis_core.errors import DataError


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        title: what it is, in a line.
        detect: whether a file or folder looks like it.
        read: labels from a file or folder.
        write: labels to a new file (``is_file``) or into an empty folder.
        is_file: whether it is one json.
    """

    title: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], Labels]
    write: Callable[[Labels, Path, WriteOptions], None]
    is_file: bool = False


# In the order in which they are tried.
FORMATS = {
    "ytvis": Format("YouTube-VIS json", ytvis.detect, ytvis.read, ytvis.write, is_file=True),
    "coco-video": Format("CocoVID json", coco.detect_video, coco.read_video, coco.write_video, is_file=True),
    "coco": Format(
        "COCO json of images, with track ids", coco.detect_images, coco.read_images, coco.write_images, is_file=True
    ),
    "cvat": Format("CVAT for video 1.1, XML", cvat.detect, cvat.read, cvat.write),
    "davis": Format("DAVIS or YouTube-VOS palette images", palette.detect, palette.read, palette.write),
    "mots": Format("MOTS or KITTI-MOTS text files", mots.detect, mots.read, mots.write_text),
    "mots-png": Format("MOTS or KITTI-MOTS 16-bit images", mots.detect, mots.read, mots.write_maps),
    "labelme": Format("LabelMe, a json a frame, with group ids", labelme.detect, labelme.read, labelme.write),
    "sa-v": Format("SAM 2 / SA-V masklet json", masklets.detect, masklets.read, masklets.write),
}


def detect_format(source: Path) -> str:
    """Name of the first format that ``source`` looks like. Raises DataError if it is missing or looks like none."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    for name, form in FORMATS.items():
        if form.detect(source):
            return name
    raise DataError(f"{source}: not recognised as any of {', '.join(FORMATS)}; name its format with --from")


def format_named(name: str, option: str) -> Format:
    """Raises DataError for an unknown name; ``option`` is where it was given."""
    if name not in FORMATS:
        raise DataError(f"{option} {name}: not one of {', '.join(FORMATS)}")
    return FORMATS[name]
