"""MOTS and KITTI-MOTS: one line an object and frame in ``<video>.txt``, or 16-bit ``<video>/<frame>.png``.

Line: ``frame id class height width counts``; pixel and id: 1000 * class + number. Id 10000 is a region to be ignored.
A pixel has one object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vis_core.data.formats import sidecar
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions
from vis_core.data.formats.paths import by_folder, copy_frame, list_files, list_images, new_file, relative_name
from vis_core.data.formats.regions import annotation_rle, label_map, masks_of_map
from vis_core.data.label_maps import read_label_map
from vis_core.errors import DataError

_CLASSES = {1: "car", 2: "pedestrian"}  # of both public data sets
_IGNORE_CLASS, _IGNORE_ID = 10, 10000
_PER_CLASS = 1000
_MAX_CLASS = 65  # 16-bit pixels
_IGNORED_NOTE = "regions to be ignored were left out"

Masks = dict[int, dict[int, dict]]  # frame number -> object id -> RLE


def detect(source: Path) -> bool:
    """Whether ``source`` is a folder with text files or label maps where MOTS has them."""
    return source.is_dir() and bool(_text_files(source) or _map_folders(source))


def read(source: Path, options: ReadOptions) -> Labels:
    """Text files, where there are any, or maps. Raises DataError that names file and line of what cannot be used."""
    known = sidecar.load(source)
    classes = {int(number): name for number, name in known["class_numbers"].items()} or _CLASSES
    labels = Labels(frames=options.frames)
    texts, folders = _text_files(source), _map_folders(source)
    if not texts and not folders:
        raise DataError(f"{source}: neither instances_txt/<video>.txt, <video>/gt/gt.txt nor instances/<video>/*.png")
    for name, place in options.track(list((texts or folders).items()), "videos"):
        masks, size = (_read_text if texts else _read_maps)(place, labels)
        entry = known["videos"].get(name, {})
        size = size or (entry.get("height"), entry.get("width"))
        if size[0] is None:
            labels.notes["videos without any object were left out (their size is not known)"] += 1
            continue
        numbers, file_names = _frames(name, place, masks, entry, labels, options)
        index = {number: t for t, number in enumerate(numbers)}
        tracks: dict[int, Track] = {}
        for number, objects in masks.items():
            if number not in index:
                raise DataError(f"{place}: frame {number}, but the video has {len(file_names)} frames")
            for object_id, rle in objects.items():
                class_name = classes.get(object_id // _PER_CLASS, f"class_{object_id // _PER_CLASS}")
                track = tracks.setdefault(object_id, Track(str(object_id), class_name, {}))
                track.masks[index[number]] = rle
        labels.videos.append(Video(name, *size, file_names, [tracks[i] for i in sorted(tracks)]))
    sidecar.restore(labels, known)
    return labels


def write_text(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write instances_txt/<video>.txt, vis.json and, with ``options.frames``, images/."""
    _write(labels, folder, options, as_maps=False)


def write_maps(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write instances/<video>/<frame>.png, vis.json and, with ``options.frames``, images/."""
    _write(labels, folder, options, as_maps=True)


def _text_files(source: Path) -> dict[str, Path]:
    """Video name -> text file."""
    if (source / "instances_txt").is_dir():
        root = source / "instances_txt"
        files = list_files(root, (".txt",), recursive=True)
        return {relative_name(path.with_suffix(""), root): path for path in files}
    challenge = [path for path in list_files(source, (".txt",), recursive=True) if path.parts[-2:] == ("gt", "gt.txt")]
    if challenge:
        return {relative_name(path.parent.parent, source): path for path in challenge}
    return {path.stem: path for path in list_files(source, (".txt",)) if _is_mots_line(path)}


def _map_folders(source: Path) -> dict[str, Path]:
    """Video name -> folder of maps."""
    root = source / "instances"
    if not root.is_dir():
        return {}
    return {relative_name(folder, root): folder for folder in by_folder(list_files(root, (".png",), recursive=True))}


def _is_mots_line(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as f:
        parts = f.readline(1 << 20).split()
    return len(parts) == 6 and all(part.isdecimal() for part in parts[:5])


def _read_text(path: Path, labels: Labels) -> tuple[Masks, tuple[int, int] | None]:
    masks: Masks = {}
    size = None
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        where, parts = f"{path}: line {number}", line.split()
        if len(parts) != 6 or not all(part.isdecimal() for part in parts[:5]):
            raise DataError(f"{where}: expected 'frame id class height width counts'")
        frame, object_id, class_id, height, width = (int(part) for part in parts[:5])
        if size not in (None, (height, width)):
            raise DataError(f"{where}: size {height} x {width} differs from the lines before")
        size = (height, width)
        if class_id == _IGNORE_CLASS or object_id == _IGNORE_ID:
            labels.notes[_IGNORED_NOTE] += 1
            continue
        if object_id // _PER_CLASS != class_id:
            object_id = class_id * _PER_CLASS + object_id % _PER_CLASS
        if object_id in masks.setdefault(frame, {}):
            raise DataError(f"{where}: object {object_id} occurs twice in frame {frame}")
        rle = annotation_rle(where, "counts", {"size": [height, width], "counts": parts[5]}, height, width)
        if rle:
            masks[frame][object_id] = rle
    return masks, size


def _read_maps(folder: Path, labels: Labels) -> tuple[Masks, tuple[int, int]]:
    masks: Masks = {}
    sizes = set()
    for place, path in enumerate(list_files(folder, (".png",))):
        values = read_label_map(path, two_bytes=True)
        sizes.add(values.shape)
        if len(sizes) > 1:
            raise DataError(f"{path}: its size differs from the maps before")
        labels.notes[_IGNORED_NOTE] += int((values == _IGNORE_ID).any())
        number = int(path.stem) if path.stem.isdecimal() else place
        masks[number] = masks_of_map(np.where(values == _IGNORE_ID, 0, values))
    return masks, sizes.pop()


def _frames(
    name: str, place: Path, masks: Masks, entry: dict, labels: Labels, options: ReadOptions
) -> tuple[list[int], list[str]]:
    """The numbers that the format gives a video's frames, and their files."""
    if entry:
        return list(range(len(entry["file_names"]))), list(entry["file_names"])
    challenge = place.name == "gt.txt"
    root = options.frames or (place.parents[2] if challenge else place.parent)
    folders = [root / name, root / name / "img1"] if options.frames else [root / name / "img1"] if challenge else []
    if options.frames is None and challenge:
        labels.frames = root
    images = next((found for found in map(list_images, folders) if found), [])
    if images:
        stems = [path.stem for path in images]
        numbers = [int(stem) for stem in stems] if all(stem.isdecimal() for stem in stems) else list(range(len(stems)))
        return numbers, [relative_name(path, root) for path in images]
    first = 1 if challenge else 0
    numbers = list(range(first, max(masks, default=first) + 1))
    labels.notes["videos have no frames at hand (--frames): numbers up to the last object's were assumed"] += 1
    return numbers, [f"{name}/{'img1/' if challenge else ''}{number:06d}.png" for number in numbers]


def _write(labels: Labels, folder: Path, options: WriteOptions, as_maps: bool) -> None:
    numbers = _class_numbers(labels, as_maps)
    for video in options.track(labels.videos, "videos"):
        ids = _object_ids(video, numbers, labels)
        lines = []
        for t in range(len(video.file_names)):
            there = [track for track in video.tracks if t in track.masks]
            painted, shared = label_map(
                [ids[track.key] for track in there], [track.masks[t] for track in there], video.height, video.width
            )
            labels.notes["pixels that several objects had went to the smallest of them"] += shared
            if as_maps:
                Image.fromarray(painted).save(new_file(folder, f"instances/{video.name}/{t:06d}.png"))
            for object_id, rle in masks_of_map(painted).items():
                size = f"{video.height} {video.width}"
                lines.append(f"{t} {object_id} {object_id // _PER_CLASS} {size} {rle['counts']}\n")
            if options.frames:
                copy_frame(options.frames, video.file_names[t], folder, f"images/{video.name}/{t:06d}")
        if not as_maps:
            new_file(folder, f"instances_txt/{video.name}.txt").write_text("".join(lines), encoding="ascii")
        for track in video.tracks:  # what the sidecar calls them
            track.key = str(ids[track.key])
    sidecar.write(labels, folder, {number: name for name, number in numbers.items()})


def _class_numbers(labels: Labels, as_maps: bool) -> dict[str, int]:
    """The classes' own ids, where they mean no region to be ignored and fit; else numbers from 1, without 10."""
    ids = labels.categories
    if _IGNORE_CLASS not in ids.values() and min(ids.values()) > 0 and max(ids.values()) <= _MAX_CLASS:
        return dict(ids)
    names = sorted(ids, key=lambda name: ids[name])
    numbers = {name: i + 1 + (i + 1 >= _IGNORE_CLASS) for i, name in enumerate(names)}
    if len(names) >= _MAX_CLASS:
        raise DataError(f"{len(names)} classes: MOTS has room for {_MAX_CLASS - 1}")
    return numbers


def _object_ids(video: Video, numbers: dict[str, int], labels: Labels) -> dict[str, int]:
    """Track key -> id. Crowds are regions to be ignored."""
    ids, used = {}, dict.fromkeys(numbers, 0)
    for track in video.tracks:
        if track.iscrowd:
            ids[track.key] = _IGNORE_ID
            labels.notes["crowd tracks became regions to be ignored (id 10000)"] += 1
            continue
        used[track.category] += 1
        limit = 65535 - 65000 if numbers[track.category] == _MAX_CLASS else _PER_CLASS - 1
        if used[track.category] > limit:
            raise DataError(f"video {video.name}: more than {limit} objects of class '{track.category}'")
        ids[track.key] = numbers[track.category] * _PER_CLASS + used[track.category]
    return ids
