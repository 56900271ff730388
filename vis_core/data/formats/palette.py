"""DAVIS and YouTube-VOS: ``Annotations/<video>/<frame>.png``, a pixel's value is its object, 0 none, 255 undecided.

YouTube-VOS keeps classes in ``meta.json``; DAVIS has none. A pixel has one object, a video at most 254.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vis_core.data.formats import sidecar
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions
from vis_core.data.formats.paths import (
    by_folder,
    copy_frame,
    list_files,
    list_images,
    new_file,
    relative_name,
)
from vis_core.data.formats.regions import label_map, masks_of_map
from vis_core.data.label_maps import VOID, read_label_map, write_label_map
from vis_core.errors import DataError
from vis_core.json_file import read_json

_FOLDERS = ("Annotations_unsupervised", "Annotations")
_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")


def detect(source: Path) -> bool:
    """Whether ``source`` is a folder of label maps, or has one named ``Annotations``."""
    return _annotation_root(source) is not None


def read(source: Path, options: ReadOptions) -> Labels:
    """Raises DataError for images that are no label maps, or of differing sizes."""
    root = _annotation_root(source) or source
    files = by_folder(list_files(root, (".png",), recursive=True))
    if not files:
        raise DataError(f"{source}: no .png below it (expected Annotations/<video>/<frame>.png)")
    top = root.parent.parent if root.name in _RESOLUTIONS else root.parent
    frames = options.frames or _image_root(root)
    classes = _classes(next((p for p in (source / "meta.json", top / "meta.json") if p.is_file()), None))
    labels = Labels(frames=frames)
    for folder, maps in options.track(list(files.items()), "videos"):
        name = relative_name(folder, root) if folder != root else root.name
        labels.videos.append(_read_video(name, maps, frames, classes.get(name, {}), labels, options))
    sidecar.restore(labels, sidecar.load(source))
    return labels


def write(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write Annotations/, meta.json, vis.json and, with ``options.frames``, JPEGImages/."""
    meta = {"videos": {}}
    for video in options.track(labels.videos, "videos"):
        values = _values(video, labels)
        for t, stem in enumerate(video.stems):
            there = [track for track in video.tracks if t in track.masks]
            painted, shared = label_map(
                [values[track.key] for track in there], [track.masks[t] for track in there], video.height, video.width
            )
            labels.notes["pixels that several objects had went to the smallest of them"] += shared
            write_label_map(new_file(folder, f"Annotations/{video.name}/{stem}.png"), painted)
            if options.frames:
                copy_frame(options.frames, video.file_names[t], folder, f"JPEGImages/{video.name}/{stem}")
        meta["videos"][video.name] = {
            "objects": {
                str(values[track.key]): {
                    "category": track.category,
                    "frames": [video.stems[t] for t in sorted(track.masks)],
                }
                for track in video.tracks
                if not track.iscrowd
            }
        }
        for track in video.tracks:  # what the sidecar calls them
            track.key = str(values[track.key])
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    sidecar.write(labels, folder)


def _annotation_root(source: Path) -> Path | None:
    """The folder that holds one folder of maps per video."""
    if not source.is_dir():
        return None
    for folder in (source, *(source / name for name in _FOLDERS)):
        if folder.name in _FOLDERS and folder.is_dir():
            return next((folder / size for size in _RESOLUTIONS if (folder / size).is_dir()), folder)
    return None


def _image_root(root: Path) -> Path:
    """JPEGImages beside Annotations, with the same folder for the resolution."""
    if root.name in _RESOLUTIONS:
        return root.parent.parent / "JPEGImages" / root.name
    return root.parent / "JPEGImages"


def _classes(meta: Path | None) -> dict[str, dict[str, str]]:
    """Video -> object number -> class, from YouTube-VOS's meta.json."""
    if meta is None:
        return {}
    content = read_json(meta)
    try:
        return {
            name: {number: str(entry["category"]) for number, entry in video["objects"].items() if "category" in entry}
            for name, video in content["videos"].items()
        }
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{meta}: expected videos.<name>.objects.<number>.category") from None


def _read_video(
    name: str, maps: list[Path], frames: Path, classes: dict[str, str], labels: Labels, options: ReadOptions
) -> Video:
    images = {path.stem: path for path in list_images(frames / name)}
    by_stem = {path.stem: path for path in maps}
    if images:
        missing = [stem for stem in by_stem if stem not in images]
        if missing:
            raise DataError(f"{by_stem[missing[0]]}: no frame of that name in {frames / name}")
        stems = [stem for stem in images if stem in by_stem or options.keep_unlabelled]
        labels.notes["frames without a label map were left out (--keep-unlabelled keeps them)"] += len(images) - len(
            stems
        )
        file_names = [relative_name(images[stem], frames) for stem in stems]
    else:
        stems = list(by_stem)
        labels.notes[f"videos have no frames in {frames}: names ending in .jpg were assumed"] += 1
        file_names = [f"{name}/{stem}.jpg" for stem in stems]
    values = {t: read_label_map(by_stem[stem], two_bytes=True) for t, stem in enumerate(stems) if stem in by_stem}
    sizes = {value.shape for value in values.values()}
    if len(sizes) > 1:
        raise DataError(f"{maps[0].parent}: label maps of different sizes: {sorted(sizes)}")
    seen = set().union(*(np.unique(value).tolist() for value in values.values()))
    tracks: dict[int, Track] = {}
    for t, value in values.items():
        if seen - {0, VOID}:  # else: DAVIS 2016, where 255 is the object
            value = np.where(value == VOID, 0, value)
        for number, rle in masks_of_map(value).items():
            track = tracks.setdefault(number, Track(str(number), classes.get(str(number)), {}))
            track.masks[t] = rle
    (height, width) = sizes.pop()
    return Video(name, height, width, file_names, [tracks[number] for number in sorted(tracks)])


def _values(video: Video, labels: Labels) -> dict[str, int]:
    """Track key -> value; crowds are undecided."""
    objects = [track for track in video.tracks if not track.iscrowd]
    if len(objects) >= VOID:
        raise DataError(f"video {video.name}: {len(objects)} objects, a palette image holds at most {VOID - 1}")
    labels.notes["crowd tracks became undecided pixels (255)"] += len(video.tracks) - len(objects)
    crowd = VOID if objects else 0  # alone, 255 would be an object: DAVIS 2016
    return {track.key: crowd for track in video.tracks} | {track.key: i + 1 for i, track in enumerate(objects)}
