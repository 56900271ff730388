"""Long json lists of objects that belong to videos (results, annotations), read video by video.

A file is scanned once for where each object begins and ends and which ``video_id`` it has; the objects themselves are
parsed when their video's turn comes. That keeps memory independent of the file's size.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Sequence

import numpy as np

from vis_core.errors import DataError
from vis_core.jit import compiled

_BLOCK = 1 << 20  # bytes read at a time
_NO_NUMBER = np.iinfo(np.int64).min

# Scanner state, kept between blocks.
_DEPTH, _IN_STRING, _ESCAPED, _MATCHED, _KEY, _NUMBER, _NEGATIVE, _DIGITS, _START, _KEYED, _COUNT, _LAST, _BAD = range(
    13
)
_NOTHING, _ELEMENT, _COMMA, _CLOSED = range(4)  # _LAST: what came last at the recorded level


@compiled
def _scan(block, base, level, target, state, starts, stops, keyed, numbers):
    """Scan one block (uint8) of a json text whose first byte is at ``base``.

    Records the objects and arrays that open at nesting depth ``level``: their extent, whether the string ``target``
    was the key right before, and the integer that follows ``target`` as a key directly inside (``numbers``, or the
    least int64). ``state[_BAD]`` tells the first byte that a list of objects cannot hold at that depth or above.
    Stops at the end of the block or when the arrays are full; returns how far it came.
    """
    depth, in_string, escaped, matched = state[_DEPTH], state[_IN_STRING], state[_ESCAPED], state[_MATCHED]
    size = len(block)
    at = -1
    while True:
        at += 1
        if in_string and not escaped and depth > level + 1:  # most of the file: run through to the closing quote
            while at < size and block[np.uint64(at)] != 34 and block[np.uint64(at)] != 92:
                at += 1
        if at >= size:
            break
        byte = block[np.uint64(at)]
        if in_string:
            if escaped:
                escaped = 0
                matched = -1
            elif byte == 92:  # backslash
                escaped = 1
            elif byte == 34:  # closing quote; the string was a key if a colon follows
                in_string = 0
                state[_KEY] = 1 if matched == len(target) else 0
            elif depth <= level + 1:
                matched = matched + 1 if 0 <= matched < len(target) and target[matched] == byte else -1
            continue
        if byte == 34:
            in_string = 1
            matched = 0
            if depth <= level and state[_BAD] < 0:
                state[_BAD] = base + at
            continue
        if byte == 32 or byte == 10 or byte == 13 or byte == 9:
            if state[_KEY] == 3:  # the number ends here
                state[_KEY] = 4
            continue
        if 48 <= byte <= 57 and (state[_KEY] == 2 or state[_KEY] == 3):
            state[_NUMBER] = state[_NUMBER] * 10 + (byte - 48)
            state[_DIGITS] += 1
            state[_KEY] = 3
            continue
        if byte == 45 and state[_KEY] == 2 and state[_DIGITS] == 0:
            state[_NEGATIVE] = 1
            continue
        if byte == 58:  # colon
            state[_KEY] = 2 if state[_KEY] == 1 else 0
            state[_NUMBER] = 0
            state[_NEGATIVE] = 0
            state[_DIGITS] = 0
            if depth == level:
                state[_KEYED] = 1 if state[_KEY] == 2 else 0
            continue
        count = state[_COUNT]
        if (byte == 44 or byte == 125) and depth == level + 1 and state[_KEY] >= 3 and 0 < state[_DIGITS] < 19:
            numbers[count] = -state[_NUMBER] if state[_NEGATIVE] else state[_NUMBER]
        state[_KEY] = 0
        if byte == 123 or byte == 91:
            if depth == level:
                if count == len(starts):
                    _save(state, depth, in_string, escaped, matched)
                    return at
                if (state[_LAST] == _ELEMENT) and state[_BAD] < 0:
                    state[_BAD] = base + at
                state[_START] = base + at
                numbers[count] = np.int64(-9223372036854775808)
            elif depth == 0 and state[_LAST] != _NOTHING and state[_BAD] < 0:
                state[_BAD] = base + at
            depth += 1
        elif byte == 125 or byte == 93:
            depth -= 1
            if depth == level:
                starts[count] = state[_START]
                stops[count] = base + at + 1
                keyed[count] = state[_KEYED] != 0
                state[_COUNT] = count + 1
                state[_LAST] = _ELEMENT
            elif depth < level:
                if (state[_LAST] >= _COMMA or depth < 0) and state[_BAD] < 0:
                    state[_BAD] = base + at
                state[_LAST] = _CLOSED
        elif byte == 44 and depth == level:
            if state[_LAST] != _ELEMENT and state[_BAD] < 0:
                state[_BAD] = base + at
            state[_KEYED] = 0
            state[_LAST] = _COMMA
        elif depth <= level and state[_BAD] < 0:
            state[_BAD] = base + at
    _save(state, depth, in_string, escaped, matched)
    return size


@compiled
def _save(state, depth, in_string, escaped, matched):
    state[_DEPTH] = depth
    state[_IN_STRING] = in_string
    state[_ESCAPED] = escaped
    state[_MATCHED] = matched


def scan_file(
    path: str, target: str, begin: int = 0, end: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Scan the list or object that bytes ``begin`` to ``end`` of a json file hold.

    Returns:
        For each object or array directly inside: start and stop (int64, in bytes), whether ``target`` is its key
        (bool), and the integer under the key ``target`` inside it (int64, or the least int64 if there is none); then
        the first byte that is wrong in a list of objects, or -1.

    Raises:
        DataError: if the file cannot be read or ends too early.
    """
    state = np.zeros(13, np.int64)
    state[_BAD] = -1
    target_bytes = np.frombuffer(target.encode("ascii"), np.uint8)
    arrays = [np.empty(1024, dtype) for dtype in (np.int64, np.int64, np.bool_, np.int64)]
    try:
        with open(path, "rb") as file:
            if begin == 0 and file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:  # Windows tools write one
                begin = len(codecs.BOM_UTF8)
            file.seek(begin)
            base = begin
            while end is None or base < end:
                block = np.frombuffer(file.read(_BLOCK if end is None else min(_BLOCK, end - base)), np.uint8)
                if not len(block):
                    break
                done = 0
                while done < len(block):
                    done += _scan(block[done:], base + done, 1, target_bytes, state, *arrays)
                    if done < len(block):
                        arrays = [np.concatenate([array, np.empty_like(array)]) for array in arrays]
                base += len(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    nothing = state[_LAST] == _NOTHING and state[_BAD] < 0
    if state[_DEPTH] or state[_IN_STRING] or nothing:
        raise DataError(f"{path}: the json ends too early, at byte {base}")
    count = int(state[_COUNT])
    starts, stops, keyed, numbers = (array[:count] for array in arrays)
    return starts, stops, keyed, numbers, int(state[_BAD])


class MemoryEntries:
    """A parsed list, grouped by video. Positions count from 0 in the order of the list."""

    def __init__(self, entries: Sequence[dict], name: str, kind: str) -> None:
        self._entries = entries
        self._positions: dict[int, list[int]] = {}
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(f"{name}: {kind} {position} is not an object")
            video_id = entry.get("video_id")
            if not isinstance(video_id, int):
                hint = " (this looks like COCO; the YouTube-VIS form is needed)" if "image_id" in entry else ""
                raise DataError(f"{name}: {kind} {position} has no integer 'video_id'{hint}")
            self._positions.setdefault(video_id, []).append(position)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def video_ids(self) -> Iterable[int]:
        return self._positions.keys()

    def count(self, video_id: int) -> int:
        return len(self._positions.get(video_id, ()))

    def of(self, video_id: int) -> list[tuple[int, dict]]:
        """(position, entry) of the video's entries in the order of the list."""
        return [(position, self._entries[position]) for position in self._positions.get(video_id, ())]

    def subset(self, video_ids: Iterable[int]) -> MemoryEntries:
        """Only these videos' entries, with their positions: what another process needs of them."""
        part = MemoryEntries.__new__(MemoryEntries)
        part._positions = {v: self._positions[v] for v in video_ids if v in self._positions}
        part._entries = {p: self._entries[p] for positions in part._positions.values() for p in positions}
        return part


class FileEntries:
    """The same of a json list in a file, which holds bytes ``begin`` to ``end`` of it (all by default)."""

    def __init__(self, path: str, kind: str, begin: int = 0, end: int | None = None) -> None:
        self._path = path
        self._kind = kind
        self._starts, self._stops, _, video_ids, bad = scan_file(path, "video_id", begin, end)
        if bad >= 0:
            raise DataError(f"{path}: at byte {bad}: not a json list of objects")
        self._positions: dict[int, list[int]] = {}
        for position, video_id in enumerate(video_ids.tolist()):
            if video_id == _NO_NUMBER:
                entry = self._parse(position)
                hint = " (this looks like COCO; the YouTube-VIS form is needed)" if "image_id" in entry else ""
                raise DataError(f"{path}: {kind} {position} has no integer 'video_id'{hint}")
            self._positions.setdefault(video_id, []).append(position)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def video_ids(self) -> Iterable[int]:
        return self._positions.keys()

    def count(self, video_id: int) -> int:
        return len(self._positions.get(video_id, ()))

    def of(self, video_id: int) -> list[tuple[int, dict]]:
        """(position, entry) of the video's entries in the order of the file."""
        return [(position, self._parse(position)) for position in self._positions.get(video_id, ())]

    def subset(self, video_ids: Iterable[int]) -> FileEntries:
        """Itself: what another process gets of it is the index only."""
        return self

    def _parse(self, position: int) -> dict:
        start, stop = int(self._starts[position]), int(self._stops[position])
        with open(self._path, "rb") as file:
            file.seek(start)
            text = file.read(stop - start)
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise DataError(f"{self._path}: {self._kind} {position}, at byte {start}: not json ({error})") from None
        if not isinstance(entry, dict):
            raise DataError(f"{self._path}: {self._kind} {position} is not an object")
        return entry


def read_without(path: str | os.PathLike, key: str) -> tuple[dict, tuple[int, int] | None]:
    """A json object without the (long) list under ``key``, and that list's extent in bytes, or None."""
    path = os.fspath(path)
    starts, stops, keyed, _, _ = scan_file(path, key)
    spans = list(zip(starts[keyed].tolist(), stops[keyed].tolist()))
    try:
        with open(path, "rb") as file:
            if not spans:
                return json.load(file), None
            start, stop = spans[-1]
            head = file.read(start)
            file.seek(stop)
            return json.loads(head + b"null" + file.read()), (start, stop)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a json file ({error})") from None
