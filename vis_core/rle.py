"""Run-length masks: the codec below :mod:`vis_core.tube` and :mod:`vis_core.evaluation`.

COCO's compressed form is ``{"size": [H, W], "counts": str}``: run lengths in column-major order, background first.
A run from the fourth on is stored as its difference from the run two places before; each number is written in groups
of five bits, lowest first, one character (48 + group, 32 added if more follow) a group, sign-extended.

Inside this package a mask is decoded to its foreground *intervals* instead of pixels: ``[start, end)`` positions in
the column-major order, ascending. Areas and intersections need nothing else.

The loops are compiled by numba at first use, kept on disk for later processes, and release the GIL. Every string is
checked while it is read: a mask whose runs do not add up to H * W never reaches code that trusts them.

Shapes: M masks, P changes between foreground and background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vis_core.errors import DataError
from vis_core.jit import compiled

MAX_PIXELS = 2**31 - 1  # positions are int32
_MAX_GROUPS = 7  # 35 bits: any run of a mask within MAX_PIXELS, with sign

# Status of a decoded mask; 0 and above is its area.
_PROBLEMS = {
    -1: "counts is empty",
    -2: "counts holds a character outside the run-length alphabet",
    -3: "counts ends in the middle of a number",
    -4: "counts holds a negative or oversized run",
    -5: "the runs do not add up to height * width",
}


@compiled
def _read_long_number(chars, cursor, stop):
    """The number that begins at ``cursor`` and the position after it, or a code of ``_PROBLEMS`` instead of that."""
    value = np.int64(0)
    for shift in range(0, 5 * _MAX_GROUPS, 5):
        if cursor >= stop:
            return value, np.int64(-3)
        group = np.int64(chars[cursor]) - 48
        cursor += 1
        if group < 0 or group > 63:
            return value, np.int64(-2)
        value |= (group & 31) << shift
        if group & 32 == 0:
            if group & 16:
                value -= np.int64(32) << shift
            return value, np.int64(cursor)
    return value, np.int64(-4)


@compiled
def decode_counts(chars, begin, stop, num_pixels, starts, ends, offset, store):
    """Decode ``chars[begin:stop]`` (uint8) to intervals at ``starts/ends[offset:]`` (int32), if ``store``.

    Returns (number of intervals, area), or (0, code of ``_PROBLEMS``) and then what was stored is void. At most
    ``(stop - begin + 1) // 2`` intervals are stored.

    The loop reads a background and a foreground run a turn. Nine of ten numbers are one character, which is handled on
    the spot, twice; indices are unsigned, which spares a check for negative ones. Both halve the time.
    """
    if stop <= begin:
        return 0, np.int64(-1)
    position, area = np.int64(0), np.int64(0)
    background, foreground = np.int64(0), np.int64(0)  # the last run of either kind
    last_end = np.int64(-1)
    num_pairs = 0
    one = np.uint64(1)
    first, count = np.uint64(offset), np.uint64(offset)
    cursor, end = np.uint64(begin), np.uint64(stop)
    while cursor < end:
        value = np.int64(chars[cursor]) - 48
        if 0 <= value < 32:
            value -= (value & 16) << 1
            cursor += one
        else:
            value, after = _read_long_number(chars, np.int64(cursor), stop)
            if after < 0:
                return 0, after
            cursor = np.uint64(after)
        background = value + background if num_pairs > 1 else value
        if background < 0:
            return 0, np.int64(-4)
        position += background
        if cursor >= end:
            break
        value = np.int64(chars[cursor]) - 48
        if 0 <= value < 32:
            value -= (value & 16) << 1
            cursor += one
        else:
            value, after = _read_long_number(chars, np.int64(cursor), stop)
            if after < 0:
                return 0, after
            cursor = np.uint64(after)
        foreground = value + foreground if num_pairs > 0 else value
        if foreground < 0:
            return 0, np.int64(-4)
        num_pairs += 1
        area += foreground
        if store and foreground > 0:
            if position != last_end:  # else an empty background run lies between
                starts[count] = position
                count += one
            last_end = position + foreground
            ends[count - one] = last_end
        position += foreground
    if position != num_pixels:
        return 0, np.int64(-5)
    return np.int64(count - first), area


@compiled
def _decode_many(chars, begins, num_pixels, wanted, starts, ends, first, areas):
    """Decode M strings one after the other; returns the index of the first bad one, or -1."""
    offset = 0
    for mask in range(len(num_pixels)):
        first[mask] = offset
        count, area = decode_counts(
            chars, begins[mask], begins[mask + 1], num_pixels[mask], starts, ends, offset, wanted[mask]
        )
        areas[mask] = area
        if area < 0:
            return mask
        offset += count
    first[len(num_pixels)] = offset
    return -1


@compiled
def _write_number(value, chars, cursor):
    while True:
        group = value & 31
        value >>= 5
        more = value != (-1 if group & 16 else 0)
        chars[cursor] = 48 + (group | 32 if more else group)
        cursor += 1
        if not more:
            return cursor


@compiled
def _encode_runs(runs, chars):
    """Write int64 run lengths as a counts string to ``chars`` (uint8, 7 a run); returns its length."""
    cursor = 0
    for index in range(len(runs)):
        value = runs[index] - runs[index - 2] if index > 2 else runs[index]
        cursor = _write_number(value, chars, cursor)
    return cursor


@compiled
def _encode_changes(changes, num_changes, num_pixels, chars, cursor):
    """Write the counts of a mask given the positions (ascending) where its value changes; returns the new cursor."""
    previous = np.int64(0)
    before_last = np.int64(0)
    last = np.int64(0)
    for index in range(num_changes + 1):
        position = np.int64(changes[index]) if index < num_changes else num_pixels
        run = position - previous
        cursor = _write_number(run - before_last if index > 2 else run, chars, cursor)
        before_last = last
        last = run
        previous = position
    return cursor


@compiled
def _find_changes(pixels, words, height, width, rows, columns, per_column, changes):
    """Positions, in column-major order, where a row-major mask differs from the pixel before; returns their number.

    ``pixels`` (H, 8 * K) uint8 of 0 and 1, zero right of ``width``; ``words`` (H, K) uint64 is the same memory, so that
    eight pixels are compared at once with those one row above. Nearly all words are equal, which makes this one pass
    over contiguous memory; the few differing pixels are then sorted by column (rows come in order).
    """
    per_column[:] = 0
    found = 0
    for column in range(width):  # the pixel before a column's first is the last one of the column to the left
        before = pixels[height - 1, column - 1] if column > 0 else 0
        if pixels[0, column] != before:
            rows[found] = 0
            columns[found] = column
            per_column[column + 1] += 1
            found += 1
    for row in range(1, height):
        for word in range(words.shape[1]):
            if words[row, word] != words[row - 1, word]:
                for column in range(8 * word, 8 * word + 8):
                    if pixels[row, column] != pixels[row - 1, column]:
                        rows[found] = row
                        columns[found] = column
                        per_column[column + 1] += 1
                        found += 1
    for column in range(width):
        per_column[column + 1] += per_column[column]
    for index in range(found):
        column = columns[index]
        changes[per_column[column]] = column * height + rows[index]
        per_column[column] += 1
    return found


@compiled
def _fill(starts, ends, pixels):
    for index in range(len(starts)):
        pixels[starts[index] : ends[index]] = True


def problem_of(status: int) -> str:
    """Words for a negative status of :func:`decode_counts`."""
    return _PROBLEMS[int(status)]


def check_size(size, what: str = "mask") -> tuple[int, int]:
    """(H, W) of an RLE's ``size`` entry. Raises DataError unless it is two positive integers of a sane product."""
    try:
        height, width = (int(v) for v in size)
    except (TypeError, ValueError):
        raise DataError(f"{what}: 'size' is {size!r}, expected [height, width]") from None
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise DataError(f"{what}: 'size' is {size!r}, expected two positive numbers")
    return height, width


def compress_counts(runs: Sequence[int], what: str = "mask") -> bytes:
    """Counts of an uncompressed RLE (list of run lengths) in the compressed form. Raises DataError on a bad list."""
    try:
        lengths = np.array(runs, dtype=np.int64)
        exact = lengths.ndim == 1 and len(lengths) > 0 and bool((lengths == np.asarray(runs)).all())
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact or lengths.min() < 0 or lengths.max() > MAX_PIXELS:
        raise DataError(f"{what}: 'counts' is not a list of run lengths")
    chars = np.empty(_MAX_GROUPS * len(lengths), dtype=np.uint8)
    return chars[: _encode_runs(lengths, chars)].tobytes()


def counts_as_bytes(counts, what: str = "mask") -> bytes:
    """Compressed counts as bytes, whichever of the three spellings (str, bytes, list of runs) they come in."""
    if isinstance(counts, bytes):
        return counts
    if isinstance(counts, str):
        try:
            return counts.encode("ascii")
        except UnicodeEncodeError:
            raise DataError(f"{what}: {problem_of(-2)}") from None
    return compress_counts(counts, what)


def compressed(rle: dict | None, what: str = "mask") -> dict | None:
    """An RLE in any of the three spellings of its counts as ``{"size": [H, W], "counts": str}``; a falsy one as None.

    Raises DataError if it is malformed.
    """
    if not rle:
        return None
    height, width = check_size(rle["size"], what)
    found = {"size": [height, width], "counts": counts_as_bytes(rle["counts"], what)}
    area(found, what)
    return {**found, "counts": found["counts"].decode("ascii")}


def decode_many(
    chars: np.ndarray, begins: np.ndarray, num_pixels: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Decode M compressed masks that lie in one buffer.

    Args:
        chars: uint8, all counts strings one after the other.
        begins: int64 (M + 1,), where each string begins.
        num_pixels: int64 (M,), height * width of each mask.
        wanted: bool (M,); of the others only the area is computed and no interval kept.

    Returns:
        ``starts, ends`` int32: the intervals; mask m's are those from ``first[m]`` to ``first[m + 1]``;
        ``first`` int64 (M + 1,); ``areas`` int64 (M,); and the index of the first malformed mask, or -1. In that case
        ``areas`` holds its (negative) status there and nothing after it is valid.
    """
    lengths = np.diff(begins)
    capacity = int(((lengths[wanted] + 1) // 2).sum())
    starts, ends = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    first, areas = np.zeros(len(num_pixels) + 1, np.int64), np.zeros(len(num_pixels), np.int64)
    bad = _decode_many(chars, begins, num_pixels, wanted, starts, ends, first, areas)
    return starts, ends, first, areas, bad


def decode_intervals(rle: dict, what: str = "mask") -> tuple[np.ndarray, np.ndarray, int]:
    """Foreground intervals ``starts, ends`` (int32) and area of one RLE. Raises DataError if it is malformed."""
    height, width = check_size(rle["size"], what)
    counts = counts_as_bytes(rle["counts"], what)
    capacity = (len(counts) + 1) // 2
    starts, ends = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    chars = np.frombuffer(counts, np.uint8)
    count, area = decode_counts(chars, 0, len(chars), height * width, starts, ends, 0, True)
    if area < 0:
        raise DataError(f"{what}: {problem_of(area)}")
    return starts[:count], ends[:count], int(area)


def decode(rle: dict, what: str = "mask") -> np.ndarray:
    """One RLE as a boolean array (H, W), column-major in memory. Raises DataError if it is malformed."""
    starts, ends, _ = decode_intervals(rle, what)
    height, width = rle["size"]
    pixels = np.zeros(height * width, dtype=bool)
    _fill(starts, ends, pixels)
    return pixels.reshape(width, height).T


def area(rle: dict, what: str = "mask") -> int:
    """Number of foreground pixels of one RLE. Raises DataError if it is malformed."""
    return decode_intervals(rle, what)[2]


def encode_dense(masks: np.ndarray) -> list[str]:
    """Counts strings of boolean masks (N, H, W), C-contiguous; byte for byte what COCO's encoder writes."""
    _, height, width = masks.shape
    if height * width == 0:
        raise ValueError(f"masks of size {height} x {width} cannot be encoded")
    padded_width = -(-width // 8) * 8
    padded = np.zeros((height, padded_width), np.uint8) if padded_width != width else None
    # Scratch for the worst case (a checkerboard); pages that are not written cost nothing.
    rows, columns, changes = (np.empty(height * width, np.int32) for _ in range(3))
    per_column = np.empty(width + 1, np.int64)
    strings = []
    for mask in masks.view(np.uint8):
        if padded is not None:
            padded[:, :width] = mask
            mask = padded
        words = mask.view(np.uint64)
        found = _find_changes(mask, words, height, width, rows, columns, per_column, changes)
        strings.append(encode_changes(changes[:found], height * width))
    return strings


def encode_changes(changes: np.ndarray, num_pixels: int) -> str:
    """Counts string of a mask of ``num_pixels`` from the ascending positions (P,) at which its value changes."""
    chars = np.empty(_MAX_GROUPS * (len(changes) + 1), np.uint8)
    length = _encode_changes(changes, len(changes), num_pixels, chars, 0)
    return chars[:length].tobytes().decode("ascii")
