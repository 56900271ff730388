"""Boundary bands of masks, for Tube-Boundary AP (HQ-YTVIS, "Video Mask Transfiner", ECCV 2022).

A mask pixel belongs to the boundary if the square of ``2 d + 1`` pixels around it holds background or leaves the image:
the mask minus its erosion by ``d`` steps of a 3 x 3 square. The band lies inside the mask.

The erosion works on columns, the direction in which run-length masks are stored: a column is a row of 64-bit words, one
bit a pixel. Eroding down a column shifts and ands words; eroding across columns ands the columns at most d apart, which
prefix and suffix products over blocks of ``2 d + 1`` columns do in three operations a column whatever d is.
"""

from __future__ import annotations

import math

import numpy as np

from vis_core.evaluation.tubes import DecodedTubes
from vis_core.jit import compiled

DILATION_RATIO = 0.02


def band_width(height: int, width: int, ratio: float = DILATION_RATIO) -> int:
    """d in pixels: ``ratio`` times the image diagonal, rounded half to even, at least 1."""
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


@compiled
def _draw(starts, ends, height, d, first_column, eroded, mask):
    """Draw intervals into bit columns (C, W): the mask itself, and the mask with every vertical run shrunk by d."""
    for index in range(len(starts)):
        start = np.int64(starts[index])
        while start < ends[index]:
            column = start // height
            stop = min(np.int64(ends[index]), (column + 1) * height)
            low, high = start - column * height, stop - column * height
            _set_bits(mask[column - first_column], low, high)
            _set_bits(eroded[column - first_column], low + d, high - d)
            start = stop


@compiled
def _set_bits(words, low, high):
    while low < high:
        word, bit = low >> 6, low & 63
        count = min(64 - bit, high - low)
        ones = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - count)
        words[word] |= ones << np.uint64(bit)
        low += count


@compiled
def _erode_across(columns, d, prefix, suffix):
    """And each column with those up to d to either side, columns outside being empty; in place."""
    num_columns, num_words = columns.shape
    window = 2 * d + 1
    if num_columns < window:
        columns[:] = 0
        return
    for word in range(num_words):
        for c in range(num_columns):
            prefix[c, word] = columns[c, word] if c % window == 0 else prefix[c - 1, word] & columns[c, word]
        for c in range(num_columns - 1, -1, -1):
            last = c % window == window - 1 or c == num_columns - 1
            suffix[c, word] = columns[c, word] if last else suffix[c + 1, word] & columns[c, word]
        for c in range(num_columns):
            inside = c >= d and c + d < num_columns  # (a plain 0 below would turn the words into floats)
            columns[c, word] = suffix[c - d, word] & prefix[c + d, word] if inside else np.uint64(0)


@compiled
def _lowest_bit(bits):
    """Position of the lowest set bit of a word that is not zero."""
    position = 0
    for step in (32, 16, 8, 4, 2, 1):
        if bits & ((np.uint64(1) << np.uint64(step)) - np.uint64(1)) == 0:
            bits >>= np.uint64(step)
            position += step
    return position


@compiled
def _read_runs(columns, height, first_column, starts, ends):
    """Intervals of bit columns, written to ``starts/ends``; returns their number."""
    count = 0
    for c in range(columns.shape[0]):
        base = (c + first_column) * height
        inside = np.uint64(0)
        for word in range(columns.shape[1]):
            bits = columns[c, word]
            changes = bits ^ (bits << np.uint64(1) | inside)
            inside = bits >> np.uint64(63)
            while changes:
                bit = _lowest_bit(changes)
                changes &= changes - np.uint64(1)
                position = base + 64 * word + bit
                if bits >> np.uint64(bit) & np.uint64(1):
                    starts[count] = position
                else:
                    ends[count] = position
                    count += 1
        if inside:
            ends[count] = base + height
            count += 1
    return count


@compiled
def _band(starts, ends, height, d, out_starts, out_ends):
    """Boundary intervals of one non-empty mask; returns their number."""
    first_column, last_column = starts[0] // height, (ends[-1] - 1) // height
    num_columns, num_words = last_column - first_column + 1, (height + 63) // 64
    mask = np.zeros((num_columns, num_words), np.uint64)
    eroded = np.zeros((num_columns, num_words), np.uint64)
    _draw(starts, ends, height, d, first_column, eroded, mask)
    _erode_across(eroded, d, np.empty_like(eroded), np.empty_like(eroded))
    for c in range(num_columns):
        for word in range(num_words):
            mask[c, word] &= ~eroded[c, word]
    return _read_runs(mask, height, first_column, out_starts, out_ends)


@compiled
def _bands(starts, ends, first, sizes, band_widths, wanted):
    """Boundaries of M masks; returns the intervals (with spare room at the end) and their offsets (M + 1,)."""
    scratch_size = 0  # every other pixel of each column
    for m in range(len(sizes)):
        scratch_size = max(scratch_size, (sizes[m, 0] + 1) // 2 * sizes[m, 1])
    scratch_starts, scratch_ends = np.empty(scratch_size, np.int32), np.empty(scratch_size, np.int32)
    out_starts, out_ends = np.empty(2 * len(starts) + 16, np.int32), np.empty(2 * len(starts) + 16, np.int32)
    out_first = np.zeros(len(sizes) + 1, np.int64)
    for m in range(len(sizes)):
        begin, stop, used = first[m], first[m + 1], out_first[m]
        count = 0
        if wanted[m] and stop > begin:
            count = _band(
                starts[begin:stop], ends[begin:stop], sizes[m, 0], band_widths[m], scratch_starts, scratch_ends
            )
        if used + count > len(out_starts):
            larger_starts, larger_ends = np.empty(2 * (used + count), np.int32), np.empty(2 * (used + count), np.int32)
            larger_starts[:used], larger_ends[:used] = out_starts[:used], out_ends[:used]
            out_starts, out_ends = larger_starts, larger_ends
        out_starts[used : used + count] = scratch_starts[:count]
        out_ends[used : used + count] = scratch_ends[:count]
        out_first[m + 1] = used + count
    return out_starts, out_ends, out_first


def boundaries(tubes: DecodedTubes, wanted: np.ndarray | None = None, ratio: float = DILATION_RATIO) -> DecodedTubes:
    """The boundary bands of all masks; of tracks where ``wanted`` (bool (N,)) is False none are computed."""
    band = {size: band_width(*size, ratio) for size in {tuple(size) for size in tubes.sizes.tolist()}}
    band_widths = np.array([band[tuple(size)] for size in tubes.sizes.tolist()], np.int64)
    mask_wanted = np.ones(len(tubes.sizes), bool)
    if wanted is not None:
        track, frame = np.nonzero(tubes.index >= 0)
        mask_wanted[tubes.index[track, frame]] = wanted[track]
    starts, ends, first = _bands(tubes.starts, tubes.ends, tubes.first, tubes.sizes, band_widths, mask_wanted)
    return tubes.with_intervals(first, starts[: first[-1]], ends[: first[-1]])
