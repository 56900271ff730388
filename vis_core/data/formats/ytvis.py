"""YouTube-VIS json: one annotation per track, one mask per frame. What training and evaluation read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pycocotools.mask as coco_mask

from vis_core.atomic import write_json
from vis_core.data.annotation_file import fail, integer_field, read_annotation_file, read_categories
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions, unique_name
from vis_core.data.formats.paths import has_list
from vis_core.data.formats.regions import annotation_rle


def detect(source: Path) -> bool:
    """Whether ``source`` is a json file of videos, and not of images."""
    return source.suffix == ".json" and has_list(source, "videos") and not has_list(source, "images")


def read(source: Path, options: ReadOptions) -> Labels:
    """Raises DataError that names file, id and field of what cannot be used."""
    data = read_annotation_file(source, "ytvis")
    labels = Labels(categories=class_ids(source, data), frames=options.frames)
    names = {number: name for name, number in labels.categories.items()}
    videos: dict[int, Video] = {}
    taken: set[str] = set()
    for entry in data["videos"]:
        video = _video(str(source), entry, taken)
        if video.id in videos:
            fail(f"{source}: video {video.id}", "id", "occurs twice")
        videos[video.id] = video
    labels.videos = list(videos.values())
    for entry in options.track(data.get("annotations") or [], "tracks"):
        where = f"{source}: annotation {entry.get('id')}"
        video = videos.get(entry.get("video_id"))
        if video is None:
            fail(where, "video_id", f"no video {entry.get('video_id')} in this file")
        if entry.get("category_id") not in names:
            fail(where, "category_id", f"{entry.get('category_id')!r} is not among the file's categories")
        masks = entry.get("segmentations")
        if not isinstance(masks, list) or len(masks) != len(video.file_names):
            fail(where, "segmentations", f"expected a list of {len(video.file_names)}, one per frame")
        rles = {
            t: annotation_rle(f"{where}, frame {t}", "segmentations", mask, video.height, video.width)
            for t, mask in enumerate(masks)
            if mask
        }
        video.tracks.append(
            Track(
                key=str(entry.get("id")),
                category=names[entry["category_id"]],
                masks={t: rle for t, rle in rles.items() if rle},
                iscrowd=bool(entry.get("iscrowd")),
                id=integer_field(where, entry, "id", positive=False),
            )
        )
    return labels


def write(labels: Labels, path: Path, options: WriteOptions) -> None:
    """Write the json at once or not at all."""
    entries = [content_of(track, video, labels) for video in labels.videos for track in video.tracks]
    content = {
        "info": {"description": "written by vis data convert"},
        "categories": category_entries(labels),
        "videos": [
            {
                "id": video.id,
                "height": video.height,
                "width": video.width,
                "length": len(video.file_names),
                "file_names": video.file_names,
            }
            for video in labels.videos
        ],
        "annotations": sorted(entries, key=lambda entry: entry["id"]),
    }
    write_json(content, path)


def content_of(track: Track, video: Video, labels: Labels) -> dict:
    """The entry of one track under "annotations"."""
    masks = [track.masks.get(t) for t in range(len(video.file_names))]
    return {
        "id": track.id,
        "video_id": video.id,
        "category_id": labels.categories[track.category],
        "iscrowd": int(track.iscrowd),
        "height": video.height,
        "width": video.width,
        "length": len(masks),
        "segmentations": masks,
        "bboxes": [coco_mask.toBbox(mask).tolist() if mask else None for mask in masks],
        "areas": [int(coco_mask.area(mask)) if mask else None for mask in masks],
    }


def category_entries(labels: Labels) -> list[dict]:
    """The field "categories", by id."""
    return [{"id": number, "name": name} for name, number in sorted(labels.categories.items(), key=lambda x: x[1])]


def class_ids(source: Path, data: dict) -> dict[str, int]:
    """Name -> id from the field "categories". Raises DataError if two classes have one name."""
    by_id = read_categories(source, data)
    names: dict[str, int] = {}
    for number, name in by_id.items():
        if name in names:
            fail(str(source), "categories", f"ids {names[name]} and {number} are both named '{name}'")
        names[name] = number
    return names


def _video(source: str, entry: dict, taken: set[str]) -> Video:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
        fail(source, "videos", f"entry {str(entry)[:80]} has no integer 'id'")
    where = f"{source}: video {entry['id']}"
    names = entry.get("file_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        fail(where, "file_names", "expected a list of file names, one per frame")
    length = integer_field(where, entry, "length") if entry.get("length") is not None else len(names)
    if length > len(names):
        fail(where, "length", f"is {length}, but there are {len(names)} file_names")
    folder = PurePosixPath(names[0].replace("\\", "/")).parent
    plain = folder.parts and not any(part.startswith((".", "/")) for part in folder.parts)
    return Video(
        name=unique_name(folder.as_posix() if plain else f"video{entry['id']}", taken),
        height=integer_field(where, entry, "height"),
        width=integer_field(where, entry, "width"),
        file_names=names[:length],
        id=entry["id"],
    )
