"""LabelMe: one json beside each frame; shapes with one label and group id are one object.

A shape is a polygon, a rectangle, a circle or a mask. Shapes without area (points, lines) are left out.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
from PIL import Image

from vis_core.data.formats import sidecar
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions, check_frame_size
from vis_core.data.formats.paths import (
    by_folder,
    copy_frame,
    has_field,
    has_list,
    image_size,
    list_files,
    list_images,
    new_file,
    relative_name,
)
from vis_core.data.formats.regions import add_mask, box_rle, ellipse_rle, patch_rle, polygon_rle
from vis_core.data.frame_source import natural_key
from vis_core.data.image_pixels import UNREADABLE
from vis_core.data.paths import inside
from vis_core.errors import DataError
from vis_core.json_file import read_json
from vis_core.tube import RLE, decode_mask

_VERSION = "5.4.1"


def detect(source: Path) -> bool:
    """Whether ``source`` is a folder with json files below it that hold "shapes"."""
    if not source.is_dir():
        return False
    files = [path for path in list_files(source, (".json",), recursive=True) if path.name != sidecar.NAME]
    return any(has_list(path, "shapes") for path in files[:5])


def read(source: Path, options: ReadOptions) -> Labels:
    """Every folder below ``source`` with label files is a video. Raises DataError naming file and shape."""
    files, others = _label_files(source, options)
    if not files:
        raise DataError(f"{source}: no LabelMe json below it (<video>/<frame>.json with 'shapes')")
    labels = Labels(frames=options.frames or source)
    unlabelled: list[str] = []
    for folder, frames in options.track(list(by_folder(files).items()), "videos"):
        labels.videos.append(_read_video(source, folder, frames, labels, options, unlabelled))
    if unlabelled:
        note = f"frames that no json names were left out, {unlabelled[0]} the first (--keep-unlabelled keeps them)"
        labels.notes[note] = len(unlabelled)
    if others:
        labels.notes[f"json files that are not LabelMe's were left out, {others[0]} the first"] = len(others)
    sidecar.restore(labels, sidecar.load(source))
    return labels


def write(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write <video>/<frame>.json with shapes of type "mask", vis.json and, with ``options.frames``, the frames."""
    for video in options.track(labels.videos, "videos"):
        for t, stem in enumerate(video.stems):
            content = {
                "version": _VERSION,
                "flags": {},
                "shapes": [_mask_shape(track, track.masks[t]) for track in video.tracks if t in track.masks],
                "imagePath": stem + Path(video.file_names[t]).suffix,
                "imageData": None,
                "imageHeight": video.height,
                "imageWidth": video.width,
            }
            new_file(folder, f"{video.name}/{stem}.json").write_text(json.dumps(content), encoding="utf-8")
            if options.frames:
                copy_frame(options.frames, video.file_names[t], folder, f"{video.name}/{stem}")
        for track in video.tracks:  # what the sidecar calls them
            track.key = _key(track.category, track.id)
    sidecar.write(labels, folder)


def _key(label: str, group: int | None) -> str:
    return label if group is None else f"{label}#{group}"


def _label_files(source: Path, options: ReadOptions) -> tuple[list[Path], list[Path]]:
    """The json files below ``source`` that belong to frames, damaged ones too, and those that have nothing to do with
    LabelMe: no shapes, no imagePath, and no image of their name."""
    files, others = [], []
    for folder, paths in by_folder(list_files(source, (".json",), recursive=True)).items():
        places = [folder] if options.frames is None else [folder, options.frames / folder.relative_to(source)]
        stems = {image.stem for place in places for image in list_images(place)}
        for path in paths:
            if has_list(path, "shapes") or path.stem in stems or has_field(path, "imagePath"):
                files.append(path)
            elif path != source / sidecar.NAME:
                others.append(path)
    return files, others


def _read_video(
    source: Path, folder: Path, files: list[Path], labels: Labels, options: ReadOptions, unlabelled: list[str]
) -> Video:
    """Adds to ``unlabelled`` the frames that are left out because no json names them."""
    contents = {path: _content(path) for path in files}
    image_names = {path: _image_name(source, path, content, labels, options) for path, content in contents.items()}
    frames: dict[str, Path | None] = {name: path for path, name in image_names.items()}
    if len(frames) < len(files):
        raise DataError(f"{folder}: two json files name the same imagePath")
    unnamed = [name for name in (relative_name(path, source) for path in list_images(folder)) if name not in frames]
    if options.keep_unlabelled:
        frames |= dict.fromkeys(unnamed)
        frames = {name: frames[name] for name in sorted(frames, key=natural_key)}
    else:
        unlabelled.extend(unnamed)
    height, width = _size(source, files[0], contents[files[0]], image_names[files[0]], options)
    tracks: dict[str, Track] = {}
    for t, path in enumerate(frames.values()):
        if path is None:
            continue
        size = _size(source, path, contents[path], image_names[path], options)
        if size != (height, width):
            raise DataError(f"{path}: size {size[0]} x {size[1]}, the first frame has {height} x {width}")
        _add_shapes(path, contents[path]["shapes"], t, (height, width), tracks, labels)
    name = relative_name(folder, source) if folder != source else source.resolve().name
    return Video(name, height, width, list(frames), list(tracks.values()))


def _content(path: Path) -> dict:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{path}: field 'shapes' is missing")
    return content


def _image_name(source: Path, path: Path, content: dict, labels: Labels, options: ReadOptions) -> str:
    """The frame's name relative to ``source``: what imagePath says, unless only an image of the json's name is there
    (frames that were renamed together with their jsons)."""
    beside = [image for image in list_images(path.parent) if image.stem == path.stem]
    named = content.get("imagePath")
    if not named:
        return relative_name(beside[0] if beside else path.with_suffix(".jpg"), source)
    image, root = (path.parent / str(named).replace("\\", "/")).resolve(), source.resolve()
    if not image.is_relative_to(root):
        raise DataError(f"{path}: imagePath '{named}' leads out of {source}; only files below it are touched")
    name = relative_name(image, root)
    if beside and not image.exists() and not inside(options.frames or source, name, str(path)).exists():
        labels.notes["imagePath names a file that is not there: the image of the json's own name was taken"] += 1
        return relative_name(beside[0], source)
    return name


def _size(source: Path, path: Path, content: dict, image_name: str, options: ReadOptions) -> tuple[int, int]:
    size = content.get("imageHeight"), content.get("imageWidth")
    if all(isinstance(v, int) and v > 0 for v in size):
        check_frame_size(*size, str(path))
        return size
    return image_size(inside(options.frames or source, image_name, str(path)))


def _add_shapes(path: Path, shapes: list, t: int, size: tuple[int, int], tracks: dict, labels: Labels) -> None:
    seen = set()
    for number, shape in enumerate(shapes):
        where = f"{path}: shape {number}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f"{where}: has no 'label'")
        if not shape["label"].strip():
            raise DataError(f"{where}: 'label' is empty")
        label, group = shape["label"], shape.get("group_id")
        if group is not None and (not isinstance(group, int) or isinstance(group, bool)):
            raise DataError(f"{where}: group_id {group!r} is not a number")
        if group is None and label in seen:
            raise DataError(
                f"{where}: a second '{label}' without group_id; give each object its own group id in LabelMe"
            )
        kind = shape.get("shape_type", "polygon")
        if kind not in _READERS:
            labels.notes[f"shapes of type {kind} have no area and were left out"] += 1
            continue
        if group is None:
            seen.add(label)
        key = _key(label, group)
        track = tracks.setdefault(key, Track(key, label, {}, id=group))
        add_mask(track.masks, t, _READERS[kind](shape, *size, where))


def _points(shape: dict, count: int | None, where: str) -> list:
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise DataError(f"{where}: 'points' is not a list of [x, y]")
    if count is not None and len(points) != count:
        raise DataError(f"{where}: expected {count} points, found {len(points)}")
    return points


def _polygon(shape: dict, height: int, width: int, where: str) -> RLE | None:
    return polygon_rle(_points(shape, None, where), height, width, where)


def _rectangle(shape: dict, height: int, width: int, where: str) -> RLE | None:
    points = _points(shape, None, where)
    if len(points) == 4:  # newer versions write all corners
        return polygon_rle(points, height, width, where)
    (x0, y0), (x1, y1) = _points(shape, 2, where)
    return box_rle(x0, y0, x1, y1, height, width, where)


def _circle(shape: dict, height: int, width: int, where: str) -> RLE | None:
    """Given by its middle and a point on it."""
    (x, y), (rim_x, rim_y) = _points(shape, 2, where)
    try:
        radius = float(np.hypot(rim_x - x, rim_y - y))
    except TypeError:
        raise DataError(f"{where}: coordinates are not numbers") from None
    return ellipse_rle(x, y, radius, radius, height, width, where)


def _mask(shape: dict, height: int, width: int, where: str) -> RLE | None:
    """A png as base64 text, laid with its top left pixel at the first point."""
    (left, top), _ = _points(shape, 2, where)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as image:
            if image.height > height + 1 or image.width > width + 1:
                raise DataError(f"{where}: its mask is larger than the frame")
            patch = np.asarray(image.convert("L")) > 0
        return patch_rle(patch, round(left), round(top), height, width)
    except (KeyError, TypeError, binascii.Error, *UNREADABLE) as e:
        raise DataError(f"{where}: 'mask' is not a png in base64 ({e})") from None


_READERS = {"polygon": _polygon, "rectangle": _rectangle, "circle": _circle, "mask": _mask}


def _mask_shape(track: Track, rle: RLE) -> dict:
    x, y, w, h = (round(v) for v in coco_mask.toBbox(rle))
    png = io.BytesIO()
    Image.fromarray(decode_mask(rle)[y : y + h, x : x + w]).save(png, "png")
    return {
        "label": track.category,
        "points": [[x, y], [x + w - 1, y + h - 1]],
        "group_id": track.id,
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(png.getvalue()).decode("ascii"),
    }
