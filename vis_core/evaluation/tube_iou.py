"""Exact intersections and unions of tubes.

A tube's pixels are pooled over its frames. Frame by frame, up to the end of the shorter of two tracks: both masks
present adds to intersection and union, one alone adds its area to the union. Masks of different sizes add nothing.
All sums are integers, so the quotient is the same double whichever way they were computed.

Shapes: D detections, G ground-truth objects, T frames.
"""

from __future__ import annotations

import numpy as np

from vis_core.evaluation.tubes import DecodedTubes
from vis_core.jit import compiled


@compiled
def _common_pixels(a_starts, a_ends, a, a_stop, b_starts, b_ends, b, b_stop):
    """Size of the intersection of two ascending lists of disjoint intervals, [a, a_stop) and [b, b_stop)."""
    if a == a_stop or b == b_stop or a_ends[a_stop - 1] <= b_starts[b] or b_ends[b_stop - 1] <= a_starts[a]:
        return np.int64(0)
    # Skip what lies before the other list's first interval.
    if a_ends[a] <= b_starts[b]:
        a += np.searchsorted(a_ends[a:a_stop], b_starts[b], side="right")
    elif b_ends[b] <= a_starts[a]:
        b += np.searchsorted(b_ends[b:b_stop], a_starts[a], side="right")
    # Unsigned indices spare a check for negative ones; that, and no branches in the loop, make it several times faster.
    a, a_stop, b, b_stop, one = np.uint64(a), np.uint64(a_stop), np.uint64(b), np.uint64(b_stop), np.uint64(1)
    common = np.int64(0)
    while a + one < a_stop and b + one < b_stop:
        a_end, b_end = a_ends[a], b_ends[b]
        common += max(min(a_end, b_end) - max(a_starts[a], b_starts[b]), 0)
        # An interval is done unless it reaches into the other list's next one; mostly both are.
        a_done, b_done = b_starts[b + one] >= a_end, a_starts[a + one] >= b_end
        a += np.uint64(a_done)
        b += np.uint64(b_done)
    while a < a_stop and b < b_stop:
        a_end, b_end = a_ends[a], b_ends[b]
        common += max(min(a_end, b_end) - max(a_starts[a], b_starts[b]), 0)
        a_done = a_end < b_end
        a += np.uint64(a_done)
        b += np.uint64(not a_done)
    return common


@compiled
def _pair_sums(
    d_index, d_lengths, d_sizes, d_areas, d_first, d_starts, d_ends,
    g_index, g_lengths, g_sizes, g_areas, g_first, g_starts, g_ends,
    d, g, empty_height, empty_width,
):  # fmt: skip
    """Intersection and union of detection d and object g; see :func:`tube_sums` for the last two arguments."""
    intersection = np.int64(0)
    union = np.int64(0)
    for frame in range(min(d_lengths[d], g_lengths[g])):
        dm, gm = d_index[d, frame], g_index[g, frame]
        if dm < 0 and gm < 0:
            continue
        d_height = d_sizes[dm, 0] if dm >= 0 else empty_height
        d_width = d_sizes[dm, 1] if dm >= 0 else empty_width
        g_height = g_sizes[gm, 0] if gm >= 0 else empty_height
        g_width = g_sizes[gm, 1] if gm >= 0 else empty_width
        if d_height > 0 and g_height > 0 and (d_height != g_height or d_width != g_width):
            continue
        if dm >= 0:
            union += d_areas[dm]
        if gm >= 0:
            union += g_areas[gm]
        if dm >= 0 and gm >= 0:
            common = _common_pixels(
                d_starts, d_ends, d_first[dm], d_first[dm + 1], g_starts, g_ends, g_first[gm], g_first[gm + 1]
            )
            intersection += common
            union -= common
    return intersection, union


@compiled
def _group_sums(d_arrays, g_arrays, d_begin, g_begin, empty_height, empty_width, intersection, union):
    """Sums of all pairs of each group, laid out group after group, detection-major."""
    cursor = 0
    for group in range(len(d_begin) - 1):
        for d in range(d_begin[group], d_begin[group + 1]):
            for g in range(g_begin[group], g_begin[group + 1]):
                intersection[cursor], union[cursor] = _pair_sums(
                    d_arrays[0], d_arrays[1], d_arrays[2], d_arrays[3], d_arrays[4], d_arrays[5], d_arrays[6],
                    g_arrays[0], g_arrays[1], g_arrays[2], g_arrays[3], g_arrays[4], g_arrays[5], g_arrays[6],
                    d, g, empty_height, empty_width,
                )  # fmt: skip
                cursor += 1


def tube_sums(
    detections: DecodedTubes,
    objects: DecodedTubes,
    d_begin: np.ndarray,
    g_begin: np.ndarray,
    empty_size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Intersections and unions, in pixels, of all pairs of tubes within groups.

    Args:
        detections, objects: the decoded tubes, sorted by group.
        d_begin, g_begin: int64 (groups + 1,); group k compares detections ``d_begin[k]`` to ``d_begin[k + 1]`` with
            objects ``g_begin[k]`` to ``g_begin[k + 1]``.
        empty_size: null frames count as empty masks of this size (HQ-YTVIS boundaries); None: as nothing.

    Returns:
        Two int64 arrays of all pairs, group after group, row (detection) by row.
    """
    pairs = int((np.diff(d_begin) * np.diff(g_begin)).sum())
    intersection, union = np.zeros(pairs, np.int64), np.zeros(pairs, np.int64)
    height, width = empty_size or (0, 0)
    _group_sums(_arrays(detections), _arrays(objects), d_begin, g_begin, height, width, intersection, union)
    return intersection, union


@compiled
def _frame_sums(d_arrays, g_arrays, intersection, union):
    d_index, d_lengths, d_sizes, d_areas, d_first, d_starts, d_ends = d_arrays
    g_index, g_lengths, g_sizes, g_areas, g_first, g_starts, g_ends = g_arrays
    for d in range(len(d_lengths)):
        for g in range(len(g_lengths)):
            for frame in range(min(d_lengths[d], g_lengths[g])):
                dm, gm = d_index[d, frame], g_index[g, frame]
                if dm < 0 or gm < 0 or d_sizes[dm, 0] != g_sizes[gm, 0] or d_sizes[dm, 1] != g_sizes[gm, 1]:
                    continue
                common = _common_pixels(
                    d_starts, d_ends, d_first[dm], d_first[dm + 1], g_starts, g_ends, g_first[gm], g_first[gm + 1]
                )
                intersection[frame, d, g] = common
                union[frame, d, g] = d_areas[dm] + g_areas[gm] - common


def frame_ious(detections: DecodedTubes, objects: DecodedTubes) -> np.ndarray:
    """IoU of all pairs in each frame, float64 (T, D, G), 0 where one of them is absent; T is the longer of the two."""
    frames = max(detections.index.shape[1], objects.index.shape[1])
    shape = (frames, detections.num_tracks, objects.num_tracks)
    intersection, union = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    _frame_sums(_arrays(detections), _arrays(objects), intersection, union)
    return quotient(intersection, union)


def quotient(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """IoU as float64, 0 where the union is empty."""
    return np.divide(intersection, union, out=np.zeros(union.shape, np.float64), where=union > 0)


def _arrays(tubes: DecodedTubes) -> tuple[np.ndarray, ...]:
    return tubes.index, tubes.lengths, tubes.sizes, tubes.areas, tubes.first, tubes.starts, tubes.ends
