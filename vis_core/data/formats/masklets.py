"""SA-V, the videos of SAM 2: one json a video, ``masklet[frame][object]`` run lengths, no classes.

Labels are at 6 frames per second, every fourth frame of the video.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vis_core.data.annotation_file import integer_field
from vis_core.data.formats import sidecar
from vis_core.data.formats.labels import Labels, ReadOptions, Track, Video, WriteOptions
from vis_core.data.formats.paths import (
    copy_frame,
    has_list,
    list_files,
    list_images,
    new_file,
    relative_name,
)
from vis_core.data.formats.regions import annotation_rle
from vis_core.data.paths import inside
from vis_core.errors import DataError
from vis_core.json_file import read_json
from vis_core.tube import encode_masks

_STEP = 4  # frames of the video between two labelled ones


def detect(source: Path) -> bool:
    """Whether ``source`` is a json file with a "masklet", or a folder with such files below it."""
    files = list_files(source, (".json",), recursive=True) if source.is_dir() else [source]
    return any(path.suffix == ".json" and has_list(path, "masklet") for path in files[:5])


def read(source: Path, options: ReadOptions) -> Labels:
    """One json or all below a folder; manual and automatic masklets of a video come together. Raises DataError."""
    files = list_files(source, (".json",), recursive=True) if source.is_dir() else [source]
    files = [path for path in files if has_list(path, "masklet")]
    if not files:
        raise DataError(f"{source}: no json with 'masklet' below it")
    root = source if source.is_dir() else source.parent
    labels = Labels(frames=options.frames or root)
    videos: dict[str, Video] = {}
    for path in options.track(files, "files"):
        _add_file(path, videos, labels)
    labels.videos = list(videos.values())
    sidecar.restore(labels, sidecar.load(root))
    return labels


def write(labels: Labels, folder: Path, options: WriteOptions) -> None:
    """Write <video>_manual.json, vis.json and, with ``options.frames``, <video>/<frame>."""
    for video in options.track(labels.videos, "videos"):
        empty = encode_masks(np.zeros((1, video.height, video.width), bool))[0]
        length = len(video.file_names)
        content = {
            "video_id": video.name,
            "video_frame_count": float(length),
            "video_height": float(video.height),
            "video_width": float(video.width),
            "masklet": [[track.masks.get(t, empty) for track in video.tracks] for t in range(length)],
            "masklet_id": list(range(len(video.tracks))),
            "masklet_type": ["manual"] * len(video.tracks),
            "masklet_num": len(video.tracks),
            "masklet_first_appeared_frame": [float(min(track.masks, default=0)) for track in video.tracks],
            "masklet_frame_count": [len(track.masks) for track in video.tracks],
        }
        new_file(folder, f"{video.name}_manual.json").write_text(json.dumps(content), encoding="utf-8")
        for i, track in enumerate(video.tracks):  # what the sidecar calls them
            track.key = f"manual{i}"
        if options.frames:
            for t, stem in enumerate(video.stems):
                copy_frame(options.frames, video.file_names[t], folder, f"{video.name}/{stem}")
    sidecar.write(labels, folder)


def _add_file(path: Path, videos: dict[str, Video], labels: Labels) -> None:
    content = read_json(path)
    where = str(path)
    if not isinstance(content, dict) or not isinstance(content.get("video_id"), str):
        raise DataError(f"{path}: field 'video_id' is missing")
    masklets = content["masklet"]
    if not isinstance(masklets, list) or not masklets or not all(isinstance(row, list) for row in masklets):
        raise DataError(f"{path}: field 'masklet' is not a list of frames")
    name, length = content["video_id"], len(masklets)
    height, width = integer_field(where, content, "video_height"), integer_field(where, content, "video_width")
    video = videos.get(name)
    if video is None:
        count = content.get("video_frame_count")
        video = videos[name] = Video(name, height, width, _file_names(path, name, length, count, labels))
    if (len(video.file_names), video.height, video.width) != (length, height, width):
        raise DataError(f"{path}: length or size differs from the other file of video '{name}'")
    kind = "auto" if path.stem.endswith("_auto") else "manual"
    ids = content.get("masklet_id") or range(len(masklets[0]))
    for i, number in enumerate(ids):
        track = Track(f"{kind}{number}", None, {})
        for t, row in enumerate(masklets):
            if i >= len(row):
                raise DataError(f"{path}: field 'masklet', frame {t}: {len(row)} masks for {len(ids)} objects")
            rle = row[i] and annotation_rle(f"{path}: frame {t}, masklet {number}", "masklet", row[i], height, width)
            if rle:
                track.masks[t] = rle
        video.tracks.append(track)


def _file_names(path: Path, name: str, length: int, count, labels: Labels) -> list[str]:
    images = list_images(inside(labels.frames, name, f"{path}: video_id"))
    if not images:
        labels.notes[f"videos have no frames in {labels.frames}/<video> (--frames): names were assumed"] += 1
        step = 1 if count == length else _STEP
        return [f"{name}/{t * step:05d}.jpg" for t in range(length)]
    if len(images) != length:
        if len(images) <= _STEP * (length - 1):
            raise DataError(f"{path}: {length} labelled frames, but {len(images)} images in {images[0].parent}")
        images = images[::_STEP][:length]
    return [relative_name(image, labels.frames) for image in images]
