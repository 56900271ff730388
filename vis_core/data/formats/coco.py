"""COCO json with one annotation per object and frame, tied together over the frames.

CocoVID (mmtracking): "videos"; images with ``video_id`` and ``frame_id``; annotations with ``instance_id``.
Plain COCO: images only; a video is a folder of them; annotations with a track id under one of several names.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pycocotools.mask as coco_mask

from vis_core.atomic import write_json
from vis_core.data.annotation_file import fail, integer_field, read_annotation_file
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions, unique_name
from vis_core.data.formats.paths import has_list
from vis_core.data.formats.regions import annotation_rle, box_rle
from vis_core.data.formats.ytvis import category_entries, class_ids
from vis_core.data.frame_source import natural_key
from vis_core.data.masks import has_corners
from vis_core.errors import DataError

_TRACK_FIELDS = ("instance_id", "track_id", "object_id", "tracking_id")
_CORNERS_NOTE = "polygons have less than three corners or an odd number of coordinates and were left out"
_BOX_NOTE = "objects have only a box: the box became their mask"


def detect_video(source: Path) -> bool:
    """Whether ``source`` is a json file of images and videos."""
    return source.suffix == ".json" and has_list(source, "images") and has_list(source, "videos")


def detect_images(source: Path) -> bool:
    """Whether ``source`` is a json file of images, and not of videos."""
    return source.suffix == ".json" and has_list(source, "images") and not has_list(source, "videos")


def read_video(source: Path, options: ReadOptions) -> Labels:
    """CocoVID. Raises DataError that names file, id and field of what cannot be used."""
    data = read_annotation_file(source, "coco")
    if not isinstance(data.get("videos"), list):
        raise DataError(f"{source}: field 'videos' is missing (plain COCO images? --from coco)")
    images = _images(source, data)
    groups: dict[int, list[dict]] = {}
    for image in images.values():
        number = integer_field(f"{source}: image {image['id']}", image, "video_id", positive=False)
        groups.setdefault(number, []).append(image)
    labels = Labels(categories=class_ids(source, data), frames=options.frames)
    taken: set[str] = set()
    for entry in data["videos"]:
        number = integer_field(f"{source}: videos", entry, "id", positive=False)
        if number not in groups:
            labels.notes["videos without images were left out"] += 1
            continue
        frames = sorted(groups.pop(number), key=lambda image: image.get("frame_id", 0))
        labels.videos.append(_video(source, unique_name(str(entry.get("name") or number), taken), frames, number))
    if groups:
        fail(f"{source}: image {next(iter(groups.values()))[0]['id']}", "video_id", "no such video in this file")
    _add_objects(source, data, labels, images, options)
    return labels


def read_images(source: Path, options: ReadOptions) -> Labels:
    """Images of one folder (or, all in one folder, with one name before the number) are a video, in natural order.

    Raises DataError if the annotations have no track ids, or for what cannot be used.
    """
    data = read_annotation_file(source, "coco")
    images = _images(source, data)
    in_folders = any("/" in image["file_name"] for image in images.values())
    groups: dict[str, list[dict]] = {}
    for image in images.values():
        name = PurePosixPath(image["file_name"])
        prefix = re.sub(r"[\W_]*\d+$", "", name.stem) or source.stem
        groups.setdefault(name.parent.as_posix() if in_folders else prefix, []).append(image)
    labels = Labels(categories=class_ids(source, data), frames=options.frames)
    for name in sorted(groups, key=natural_key):
        frames = sorted(groups[name], key=lambda image: natural_key(image["file_name"]))
        if all(isinstance(image.get("frame_index"), int) for image in frames):
            frames.sort(key=lambda image: image["frame_index"])
        ids = {image.get("video_id") for image in frames}
        number = ids.pop() if len(ids) == 1 else None
        labels.videos.append(_video(source, name, frames, number if isinstance(number, int) else None))
    _add_objects(source, data, labels, images, options)
    return labels


def write_video(labels: Labels, path: Path, options: WriteOptions) -> None:
    """CocoVID: image ids are numbered from 1, ``instance_id`` is the track's id."""
    content = _content(labels, "frame_id", "instance_id")
    content["videos"] = [
        {
            "id": video.id,
            "name": video.name,
            "height": video.height,
            "width": video.width,
            "length": len(video.file_names),
        }
        for video in labels.videos
    ]
    write_json(content, path)


def write_images(labels: Labels, path: Path, options: WriteOptions) -> None:
    """Plain COCO: ``track_id``; ``video_id`` and ``frame_index`` of images are extra fields."""
    write_json(_content(labels, "frame_index", "track_id"), path)


def _images(source: Path, data: dict) -> dict[int, dict]:
    images: dict[int, dict] = {}
    for image in data["images"]:
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            fail(str(source), "images", f"entry {str(image)[:80]} has no integer 'id'")
        where = f"{source}: image {image['id']}"
        if image["id"] in images:
            fail(where, "id", "occurs twice")
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            fail(where, "file_name", "is missing")
        images[image["id"]] = image
    return images


def _video(source: Path, name: str, frames: list[dict], number: int | None) -> Video:
    where = f"{source}: image {frames[0]['id']}"
    height, width = integer_field(where, frames[0], "height"), integer_field(where, frames[0], "width")
    for t, image in enumerate(frames):
        if (image.get("height"), image.get("width")) != (height, width):
            fail(f"{source}: image {image['id']}", "height, width", f"differ from the first of video '{name}'")
        image["_place"] = (name, t)
    return Video(name, height, width, [image["file_name"] for image in frames], id=number)


def _add_objects(source: Path, data: dict, labels: Labels, images: dict[int, dict], options: ReadOptions) -> None:
    names = {number: name for name, number in labels.categories.items()}
    videos = {video.name: video for video in labels.videos}
    tracks: dict[tuple[str, int], Track] = {}
    for annotation in options.track(data.get("annotations") or [], "objects"):
        where = f"{source}: annotation {annotation.get('id')}"
        image = images.get(annotation.get("image_id"))
        if image is None:
            fail(where, "image_id", f"no image {annotation.get('image_id')} in this file")
        if annotation.get("category_id") not in names:
            fail(where, "category_id", f"{annotation.get('category_id')!r} is not among the file's categories")
        name, t = image["_place"]
        category, number = names[annotation["category_id"]], _track_id(where, annotation)
        track = tracks.get((name, number))
        if track is None:
            track = tracks[name, number] = Track(str(number), category, {}, id=number)
            videos[name].tracks.append(track)
        if track.category != category:
            fail(where, "category_id", f"is '{category}', but track {number} was '{track.category}' before")
        if t in track.masks:
            fail(where, "image_id", f"track {number} occurs twice in image {image['id']}")
        track.iscrowd |= bool(annotation.get("iscrowd"))
        rle = _mask(where, annotation, videos[name], labels)
        if rle:
            track.masks[t] = rle


def _track_id(where: str, annotation: dict) -> int:
    attributes = annotation.get("attributes")
    for holder in (annotation, attributes if isinstance(attributes, dict) else {}):
        for field in _TRACK_FIELDS:
            value = holder.get(field)
            if isinstance(value, str) and value.isdecimal():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    raise DataError(
        f"{where}: has no track id (looked for {', '.join(_TRACK_FIELDS)}, also in 'attributes'); COCO without track "
        "ids holds images, not videos: train on it with register_coco_video"
    )


def _mask(where: str, annotation: dict, video: Video, labels: Labels):
    mask = annotation.get("segmentation")
    if mask:
        if isinstance(mask, list):  # many files hold such, and nobody can see them
            whole = [part for part in mask if not isinstance(part, list) or has_corners(part)]
            labels.notes[_CORNERS_NOTE] += len(mask) - len(whole)
            mask = whole
        return annotation_rle(where, "segmentation", mask, video.height, video.width)
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        fail(where, "segmentation", "is missing, and so is 'bbox'")
    labels.notes[_BOX_NOTE] += 1
    x, y, w, h = box
    return box_rle(x, y, x + w, y + h, video.height, video.width, where)


def _content(labels: Labels, frame_field: str, track_field: str) -> dict:
    images, annotations = [], []
    for video in labels.videos:
        first = len(images) + 1
        for t, name in enumerate(video.file_names):
            size = {"height": video.height, "width": video.width}
            images.append({"id": first + t, "video_id": video.id, frame_field: t, "file_name": name, **size})
        for track in video.tracks:
            for t, rle in track.masks.items():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": first + t,
                        "video_id": video.id,
                        "category_id": labels.categories[track.category],
                        track_field: track.id,
                        "segmentation": rle,
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        "area": int(coco_mask.area(rle)),
                        "iscrowd": int(track.iscrowd),
                    }
                )
    return {"categories": category_entries(labels), "images": images, "annotations": annotations}
