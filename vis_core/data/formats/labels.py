"""What every format is read to and written from: videos, their tracks, one run-length mask per frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from vis_core.data.frame_source import natural_key
from vis_core.errors import DataError
from vis_core.tube import RLE

UNNAMED = "object"  # the class of objects in formats that know none
MAX_PIXELS = 2**28  # of a frame: 16,384 x 16,384


@dataclass
class Track:
    """One object of a video.

    Attributes:
        key: what the format itself calls it, unique within the video.
        category: class name; None where the format has no classes.
        masks: frame index -> RLE of at least one pixel; frames in which it cannot be seen are left out.
        id: unique over the data set, if the format has such.
    """

    key: str
    category: str | None
    masks: dict[int, RLE]
    iscrowd: bool = False
    id: int | None = None


@dataclass
class Video:
    """A video: ``file_names`` (T) relative to the frames' folder, sizes in pixels, ``name`` unique and with ``/``."""

    name: str
    height: int
    width: int
    file_names: list[str]
    tracks: list[Track] = field(default_factory=list)
    id: int | None = None

    def __post_init__(self) -> None:
        check_frame_size(self.height, self.width, f"video {self.name}")

    @property
    def stems(self) -> list[str]:
        """One name without suffix per frame, for formats that keep a file per frame: in order, and all different."""
        stems = [PurePosixPath(name).stem for name in self.file_names]
        keys = [natural_key(stem) for stem in stems]
        if all(a < b for a, b in pairwise(keys)) and not any(stem.startswith(".") for stem in stems):
            return stems
        return [f"{t:05d}" for t in range(len(stems))]


@dataclass
class Labels:
    """A labelled data set.

    Attributes:
        categories: class name -> id. Classes of tracks that are not in it get the next free ids, by name.
        frames: folder that the file names are relative to, where known.
        notes: what a reader left out, guessed or changed, with how often.
    """

    videos: list[Video] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    frames: Path | None = None
    notes: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    Attributes:
        frames: folder of the videos' frames, where it is not beside the labels.
        keep_unlabelled: frames without a label file are frames without objects, instead of being left out.
        track: wraps a sequence that is worked through, to show progress: ``track(items, what) -> items``.
    """

    frames: Path | None = None
    keep_unlabelled: bool = False
    track: Callable[[Sequence, str], Iterable] = lambda items, what: items


@dataclass(frozen=True)
class WriteOptions:
    """How to write. ``frames``: copy the frames below this folder too, where the format has a place for them."""

    frames: Path | None = None
    track: Callable[[Sequence, str], Iterable] = lambda items, what: items


def check_frame_size(height: int, width: int, where: str) -> None:
    """Raises DataError for what can be no frame: nothing is to be allocated by such numbers."""
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise DataError(f"{where}: {height} x {width} is no size of a frame")


def complete(labels: Labels) -> Labels:
    """Fill in what the format did not say, in place: ids of classes, videos and tracks. Returns ``labels``.

    Ids that the format has are kept if all are positive and none occurs twice; otherwise all are numbered from 1.
    Raises DataError if there is nothing in it.
    """
    if not labels.videos:
        raise DataError("no videos found")
    for track in _tracks(labels):
        track.category = UNNAMED if track.category is None else track.category
    new = sorted({track.category for track in _tracks(labels)} - labels.categories.keys())
    first = max(labels.categories.values(), default=0) + 1
    labels.categories |= {name: first + i for i, name in enumerate(new)}
    if not labels.categories:  # no object anywhere; a json needs at least one class
        labels.categories[UNNAMED] = 1
    _number(labels.videos, "videos", labels.notes)
    labels.videos.sort(key=lambda video: video.id)
    _number(list(_tracks(labels)), "tracks", labels.notes)
    return labels


def restrict_classes(labels: Labels, names: Sequence[str]) -> None:
    """Let the classes be ``names`` with ids from 1, in place. Raises DataError if a track has another class."""
    for video in labels.videos:
        for track in video.tracks:
            if track.category is not None and track.category not in names:
                raise DataError(f"video {video.name}, object {track.key}: class '{track.category}' is not in --classes")
    labels.categories = {name: i + 1 for i, name in enumerate(names)}


def unique_name(wanted: str, taken: set[str]) -> str:
    """``wanted``, with a number behind it if it is in ``taken``; adds the result to ``taken``."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    taken.add(name)
    return name


def _tracks(labels: Labels) -> Iterator[Track]:
    return (track for video in labels.videos for track in video.tracks)


def _number(items: list, what: str, notes: Counter) -> None:
    ids = [item.id for item in items]
    if None not in ids and len(set(ids)) == len(ids) and min(ids, default=1) > 0:
        return
    if any(i is not None for i in ids) and None not in ids:
        notes[f"ids of {what} occur twice or are not positive: all numbered from 1"] += 1
    for number, item in enumerate(items):
        item.id = number + 1
