"""Results of a tracker in the YouTube-VIS results form, grouped by video and checked entry by entry.

One entry is ``{"video_id", "category_id", "score", "segmentations"}``, the last a list of RLE or null per frame;
other keys are ignored. Entries are never modified.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vis_core.errors import DataError
from vis_core.evaluation.ground_truth import read_json


@dataclass(frozen=True)
class ResultTrack:
    """One predicted track; ``position`` is its place in the file, from 0."""

    position: int
    category_id: int
    score: float
    segmentations: Sequence[dict | None] = field(repr=False)


class Results:
    """Entries grouped by video.

    Args:
        entries: the parsed results list.
        name: what error messages call it, usually the file's path.
    """

    def __init__(self, entries: Sequence[dict], name: str = "results") -> None:
        self.name = name
        if not isinstance(entries, (list, tuple)):
            raise DataError(f"{name}: expected a list of tracks, found a {type(entries).__name__}")
        self._entries = entries
        self._positions: dict[int, list[int]] = {}
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get("video_id"), int):
                raise DataError(f"{name}: entry {position} has no integer 'video_id'")
            self._positions.setdefault(entry["video_id"], []).append(position)

    @classmethod
    def load(cls, source: Results | Sequence[dict] | str | os.PathLike) -> Results:
        """From a path, the parsed list, or (returned as it is) a Results. Raises DataError naming the file."""
        if isinstance(source, Results):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls(read_json(source), name=os.fspath(source))
        return cls(source)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def video_ids(self) -> Iterable[int]:
        return self._positions.keys()

    def tracks(self, video_id: int) -> list[ResultTrack]:
        """The video's tracks in file order. Raises DataError naming entry and field where one is unusable."""
        return [
            read_track(self._entries[position], position, self.name) for position in self._positions.get(video_id, ())
        ]


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
