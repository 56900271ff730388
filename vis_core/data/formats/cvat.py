"""CVAT for video 1.1: one XML a video, its tracks with boxes, ellipses, polygons or masks at keyframes.

Shapes between keyframes are interpolated (keyframes.py) unless the file holds them, as CVAT's own exports do;
``outside`` ends an object's appearance. Tracks of one label and group are one object: that is how CVAT exports masks, a
track a frame.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.data.formats import sidecar
from vis_core.data.formats.keyframes import Shape, fill_frames
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions, unique_name
from vis_core.data.formats.paths import copy_frame, list_files, list_images, new_file, relative_name
from vis_core.data.formats.regions import add_mask, box_rle, ellipse_rle, patch_rle, polygon_rle
from vis_core.data.formats.safe_xml import parse_xml
from vis_core.data.paths import inside
from vis_core.errors import DataError
from vis_core.tube import RLE, decode_mask

_MAX_FRAMES = 10_000_000
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")


def detect(source: Path) -> bool:
    """Whether ``source`` is an XML file, or a folder with one below it."""
    if source.is_dir():
        return bool(list_files(source, (".xml",), recursive=True))
    return source.suffix.lower() == ".xml"


def read(source: Path, options: ReadOptions) -> Labels:
    """One file, or all below a folder. Raises DataError that names file, track and frame."""
    files = list_files(source, (".xml",), recursive=True) if source.is_dir() else [source]
    if not files:
        raise DataError(f"{source}: no .xml below it")
    root = source if source.is_dir() else source.parent
    labels = Labels(frames=options.frames or root)
    taken: set[str] = set()
    for path in options.track(files, "videos"):
        labels.videos.append(_read_video(path, root, labels, taken, single=len(files) == 1))
    if len({video.id for video in labels.videos}) < len(labels.videos):  # tasks without ids, or exports of one task
        for video in labels.videos:
            video.id = None
    sidecar.restore(labels, sidecar.load(root))
    return labels


def write(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write <video>.xml, vis.json and, with ``options.frames``, <video>/<frame>."""
    names = sorted(labels.categories, key=lambda name: labels.categories[name])
    for video in options.track(labels.videos, "videos"):
        root = _document(video, names)
        for track in video.tracks:
            for t, rle in sorted(track.masks.items()):
                attributes = {"id": str(len(root) - 2), "label": track.category, "group_id": str(track.id)}
                element = SubElement(root, "track", attributes)
                SubElement(element, "mask", _mask_attributes(t, rle, outside=False))
                if t + 1 < len(video.file_names):
                    SubElement(element, "mask", _mask_attributes(t + 1, rle, outside=True))
            track.key = _key(track.category, track.id, None)  # what the sidecar calls it
        indent(root)
        ElementTree(root).write(new_file(folder, f"{video.name}.xml"), encoding="utf-8", xml_declaration=True)
        if options.frames:
            for t, stem in enumerate(video.stems):
                copy_frame(options.frames, video.file_names[t], folder, f"{video.name}/{stem}")
    sidecar.write(labels, folder)


def _key(label: str, group: int | None, number: int | None) -> str:
    return f"{label}#{number}" if group is None else f"{label}#group{group}"


def _read_video(path: Path, root: Path, labels: Labels, taken: set[str], single: bool) -> Video:
    document = parse_xml(path)
    if document.tag != "annotations" or document.find("image") is not None:
        raise DataError(f"{path}: not a 'CVAT for video' file; export the task in the format 'CVAT for video 1.1'")
    meta = document.find("meta")
    if meta is None:
        raise DataError(f"{path}: element 'meta' is missing")
    if len(meta.findall(".//tasks/task")) > 1:
        raise DataError(f"{path}: holds several tasks; export each task (a video) by itself")
    for label in meta.iter("label"):
        name = label.findtext("name")
        if name:
            labels.categories.setdefault(name, len(labels.categories) + 1)
    height, width = (_integer(path, meta.findtext(f".//original_size/{side}"), side) for side in ("height", "width"))
    numbers = _frame_numbers(path, meta, document)
    wanted = path.relative_to(root).with_suffix("").as_posix()
    if path.stem == "annotations" and path.parent != root:
        wanted = relative_name(path.parent, root)
    name = unique_name(wanted, taken)
    file_names = _file_names(path, meta, name, numbers, labels, single)
    number = next((int(e.text) for e in meta.findall("./*/id") if e.text and e.text.strip().isdecimal()), None)
    video = Video(name, height, width, file_names, id=number)
    tracks: dict[str, Track] = {}
    for element in document.iter("track"):
        _add_track(path, element, video, numbers, tracks, labels)
    video.tracks = list(tracks.values())
    return video


def _integer(path: Path, text: str | None, what: str) -> int:
    if text is None or not text.strip().isdecimal():
        raise DataError(f"{path}: '{what}' is {text!r}, expected a number")
    return int(text)


def _frame_numbers(path: Path, meta: Element, document: Element) -> list[int]:
    """The numbers of the task's frames: from start to stop in steps, as the file's ``frame`` attributes have them."""
    start = int(meta.findtext(".//start_frame") or 0)
    step = re.search(r"step\s*=\s*(\d+)", meta.findtext(".//frame_filter") or "")
    step = max(int(step[1]), 1) if step else 1
    stop, size = meta.findtext(".//stop_frame"), meta.findtext(".//size")
    if stop is None and size is None:
        raise DataError(f"{path}: neither 'stop_frame' nor 'size' says how long the video is")
    end = start + step * _integer(path, size, "size") if stop is None else _integer(path, stop, "stop_frame") + 1
    if not start < end <= start + _MAX_FRAMES:
        raise DataError(f"{path}: frames {start} to {end - 1} are no video")
    return list(range(start, end, step))


def _file_names(path: Path, meta: Element, name: str, numbers: list[int], labels: Labels, single: bool) -> list[str]:
    """Files of the task's frames: all images of the first folder that has any, or one for each frame number."""
    frames = labels.frames
    source = PurePosixPath((meta.findtext(".//source") or "").replace("\\", "/")).stem
    places = [frames / name, frames / name / "images", *([inside(frames, source, str(path))] if source else [])]
    if path.parent.is_relative_to(frames):
        places += [path.parent / "images"]
    if single:
        places += [frames / "images", frames]
    images = next((found for found in map(list_images, places) if found), None)
    if images is None:
        labels.notes[f"videos have no frames below {frames} (--frames): names were assumed"] += 1
        return [f"{name}/{number:05d}.jpg" for number in numbers]
    if len(images) != len(numbers):
        if len(images) <= numbers[-1]:
            raise DataError(
                f"{path}: has {len(numbers)} frames, the last of them number {numbers[-1]}, but there are "
                f"{len(images)} images in {images[0].parent}"
            )
        images = [images[number] for number in numbers]
    return [relative_name(image, frames) for image in images]


def _add_track(path: Path, element: Element, video: Video, numbers: list[int], tracks: dict, labels: Labels) -> None:
    where = f"{path}: track {element.get('id')}"
    label = element.get("label")
    if not label:
        raise DataError(f"{where}: has no 'label'")
    keys: dict[int, Shape | None] = {}
    for shape in element:
        if shape.tag in _WITHOUT_AREA:
            labels.notes[f"shapes of type {shape.tag} have no area and were left out"] += 1
            continue
        here = f"{where}, frame {shape.get('frame')}"
        keys[_integer(path, shape.get("frame"), f"frame of track {element.get('id')}")] = (
            None if shape.get("outside") == "1" else _shape(shape, here)
        )
    group = element.get("group_id")
    group = int(group) if group and group.isdecimal() and int(group) else None
    number = element.get("id")
    number = int(number) if number and number.isdecimal() else len(tracks)
    key = _key(label, group, number)
    track = tracks.setdefault(key, Track(key, label, {}, id=number if group is None else group))
    index = {frame: t for t, frame in enumerate(numbers)}
    unknown = [frame for frame, shape in keys.items() if shape and frame not in index]
    if unknown:
        raise DataError(f"{where}: frame {unknown[0]} is not among the task's {numbers[0]} to {numbers[-1]}")
    for frame, shape in fill_frames(keys, numbers).items():
        add_mask(track.masks, index[frame], _rle(shape, video, f"{where}, frame {frame}"))


def _shape(element: Element, where: str) -> Shape:
    def number(field: str) -> float:
        try:
            return float(element.get(field, ""))
        except ValueError:
            raise DataError(f"{where}: '{field}' is {element.get(field)!r}, expected a number") from None

    degrees = number("rotation") if element.get("rotation") else 0.0
    if element.tag == "box":
        corners = [(number("xtl"), number("ytl")), (number("xbr"), number("ybr"))]
        return Shape("box", np.array(corners), degrees)
    if element.tag == "ellipse":
        return Shape("ellipse", np.array([(number("cx"), number("cy")), (number("rx"), number("ry"))]), degrees)
    if element.tag == "polygon":
        try:
            corners = [[float(v) for v in point.split(",")] for point in element.get("points", "").split(";")]
            return Shape("polygon", np.array(corners, dtype=np.float64).reshape(len(corners), 2))
        except ValueError:
            raise DataError(f"{where}: 'points' is not a list x,y;x,y;...") from None
    if element.tag == "mask":
        left, top, width, height = (int(number(field)) for field in ("left", "top", "width", "height"))
        return Shape("mask", patch=_patch(element.get("rle", ""), height, width, where), origin=(left, top))
    raise DataError(f"{where}: shape '{element.tag}' is not known")


def _patch(text: str, height: int, width: int, where: str) -> np.ndarray:
    """A mask within its box from run lengths row by row, background first."""
    try:
        runs = np.array([int(run) for run in text.split(",")])
    except (ValueError, OverflowError):
        raise DataError(f"{where}: 'rle' is not a list of run lengths") from None
    if runs.min() < 0 or runs.sum() != height * width:
        raise DataError(f"{where}: run lengths add up to {runs.sum()}, not to {height} x {width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def _rle(shape: Shape, video: Video, where: str) -> RLE | None:
    size = (video.height, video.width, where)
    if shape.kind == "mask":
        return patch_rle(shape.patch, *shape.origin, video.height, video.width)
    if shape.kind == "polygon":
        return polygon_rle(shape.points, *size)
    read = box_rle if shape.kind == "box" else ellipse_rle
    return read(*shape.points.ravel(), *size, degrees=shape.degrees)


def _document(video: Video, class_names: list[str]) -> Element:
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    length = len(video.file_names)
    facts = {"id": video.id, "name": video.name, "size": length, "mode": "interpolation", "overlap": 0}
    for field, value in (facts | {"start_frame": 0, "stop_frame": length - 1, "frame_filter": ""}).items():
        SubElement(task, field).text = str(value)
    holder = SubElement(task, "labels")
    for name in class_names:
        label = SubElement(holder, "label")
        SubElement(label, "name").text = name
        SubElement(label, "type").text = "any"
        SubElement(label, "attributes")
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = str(video.width), str(video.height)
    return root


def _mask_attributes(t: int, rle: RLE, outside: bool) -> dict[str, str]:
    x, y, w, h = (round(v) for v in coco_mask.toBbox(rle))
    flat = decode_mask(rle)[y : y + h, x : x + w].ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    return {
        "frame": str(t),
        "keyframe": "1",
        "outside": str(int(outside)),
        "occluded": "0",
        "rle": ", ".join(str(run) for run in ([0, *runs] if flat[0] else runs)),
        "left": str(x),
        "top": str(y),
        "width": str(w),
        "height": str(h),
        "z_order": "0",
    }
