"""Results of a tracker in the YouTube-VIS results form, grouped by video and checked entry by entry.

One entry is ``{"video_id", "category_id", "score", "segmentations"}``, the last a list of RLE or null per frame;
other keys are ignored. Entries are never modified.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vis_core.errors import DataError
from vis_core.evaluation.entries import FileEntries, MemoryEntries


@dataclass(frozen=True)
class ResultTrack:
    """One predicted track; ``position`` is its place in the file, from 0."""

    position: int
    category_id: int
    score: float
    segmentations: Sequence[dict | None] = field(repr=False)


class Results:
    """Predicted tracks grouped by video.

    Args:
        entries: where they are: a parsed list or a file.
        name: what error messages call it, usually the file's path.
    """

    def __init__(self, entries: MemoryEntries | FileEntries, name: str = "results") -> None:
        self.name = name
        self._entries = entries

    @classmethod
    def load(cls, source: Results | Sequence[dict] | str | os.PathLike) -> Results:
        """From a path, the parsed list, or (returned as it is) a Results. Raises DataError naming the file.

        A file is read video by video, each time its tracks are asked for.
        """
        if isinstance(source, Results):
            return source
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            return cls(FileEntries(path, "entry"), path)
        if not isinstance(source, (list, tuple)):
            raise DataError(f"results: expected a list of tracks, found a {type(source).__name__}")
        return cls(MemoryEntries(source, "results", "entry"))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def video_ids(self) -> Iterable[int]:
        return self._entries.video_ids

    def count(self, video_id: int) -> int:
        """Number of the video's tracks."""
        return self._entries.count(video_id)

    def tracks(self, video_id: int) -> list[ResultTrack]:
        """The video's tracks in file order. Raises DataError naming entry and field where one is unusable."""
        return [read_track(entry, position, self.name) for position, entry in self._entries.of(video_id)]

    def subset(self, video_ids: Iterable[int]) -> Results:
        """What another process needs to evaluate these videos."""
        return Results(self._entries.subset(video_ids), self.name)


def read_track(entry: dict, position: int, name: str) -> ResultTrack:
    """Check one entry's fields. Raises DataError naming entry and field."""
    where = f"{name}: entry {position} (video {entry['video_id']})"
    for key in ("category_id", "score", "segmentations"):
        if key not in entry:
            raise DataError(f"{where}: field '{key}' is missing")
    score = entry["score"]
    if not isinstance(score, (int, float)):
        raise DataError(f"{where}: 'score' is {score!r}, expected a number")
    if not isinstance(entry["segmentations"], (list, tuple)):
        raise DataError(f"{where}: 'segmentations' is not a list")
    return ResultTrack(position, entry["category_id"], score, entry["segmentations"])
