"""``vis.json``: beside exported labels, what their format has no place for, so that they can be read back whole.

Other tools ignore it. Ids of videos and tracks, file names and crowd flags come from it; a class only where the format
has none, because somebody may have corrected it since.
"""

from __future__ import annotations

import json
from pathlib import Path

from vis_core.data.formats.labels import Labels
from vis_core.errors import DataError
from vis_core.json_file import read_json

NAME = "vis.json"
_VIDEO_FIELDS = ("id", "height", "width", "file_names")


def write(labels: Labels, folder: Path, class_numbers: dict[int, str] | None = None) -> None:
    """Write ``vis.json``. ``class_numbers``: the format's own number of each class, if it has numbers."""
    content = {
        "description": "What vis data convert needs to read these labels back: ids, file names, crowds",
        "categories": labels.categories,
        "class_numbers": {str(number): name for number, name in (class_numbers or {}).items()},
        "videos": {
            video.name: {field: getattr(video, field) for field in _VIDEO_FIELDS}
            | {
                "tracks": {
                    track.key: {"id": track.id, "category": track.category, "iscrowd": track.iscrowd}
                    for track in video.tracks
                }
            }
            for video in labels.videos
        },
    }
    (folder / NAME).write_text(json.dumps(content), encoding="utf-8")


def load(folder: Path) -> dict:
    """Contents of ``vis.json`` in ``folder``, or of an empty one. Raises DataError if it is damaged."""
    path = folder / NAME
    if not path.is_file():
        return {"categories": {}, "class_numbers": {}, "videos": {}}
    content = read_json(path)
    try:
        whole = _is_whole(content)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DataError(f"{path}: damaged; remove it to read the labels without it")
    return content


def _is_whole(content: dict) -> bool:
    """Whether all that is read later has its type. Raises KeyError, TypeError or AttributeError for other damage."""
    videos = content["videos"].values()
    tracks = [track for video in videos for track in video["tracks"].values()]
    numbers = [video[field] for video in videos for field in ("id", "height", "width")]
    numbers += [*(track["id"] for track in tracks), *content["categories"].values()]
    texts = [*(track["category"] for track in tracks), *content["class_numbers"].values()]
    texts += [name for video in videos for name in video["file_names"]]
    return (
        all(isinstance(video["file_names"], list) for video in videos)
        and all(isinstance(number, int) for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(number.isdecimal() for number in content["class_numbers"])
    )


def restore(labels: Labels, content: dict) -> None:
    """Put back what ``content`` knows, in place. Videos and tracks that it does not know stay as they were read."""
    labels.categories = dict(content["categories"]) or labels.categories  # new classes: see complete()
    for video in labels.videos:
        known = content["videos"].get(video.name)
        if known is None:
            continue
        video.id = known["id"]
        if len(known["file_names"]) == len(video.file_names):
            video.file_names = list(known["file_names"])
        for track in video.tracks:
            entry = known["tracks"].get(track.key)
            if entry is not None:
                track.id = entry["id"]
                track.iscrowd = bool(entry.get("iscrowd"))
                track.category = entry["category"] if track.category is None else track.category
    _number_new(labels)


def _number_new(labels: Labels) -> None:
    """Ids for videos and tracks that were added since, above all others."""
    for items in (labels.videos, [track for video in labels.videos for track in video.tracks]):
        known = [item.id for item in items if item.id is not None]
        if not known:
            continue
        following = max(known) + 1
        for item in items:
            if item.id is None:
                item.id = following
                following += 1
