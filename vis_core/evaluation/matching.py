"""Greedy assignment of detections to ground-truth objects, for every area range, occlusion level and IoU threshold.

Shapes: D detections of one video and G objects, both sorted by category into groups; R settings (area range x
occlusion level), S IoU thresholds.
"""

from __future__ import annotations

import numpy as np

from vis_core.jit import compiled

IGNORED, TRUE_POSITIVE, FALSE_POSITIVE = 0, 1, 2


@compiled
def _match_group(iou, d_outside, g_ignore, g_crowd, thresholds, verdicts, partners):
    """One group under one setting. ``iou`` (D, G); ``verdicts`` and ``partners`` (S, D) are written.

    Detections come by falling score. Each takes the free object of highest IoU at or above the threshold, the last one
    among equals; an object that counts is preferred to an ignored one, and a crowd may be taken again and again.
    """
    num_detections, num_objects = iou.shape
    order = np.empty(num_objects, np.int64)  # those that count first, else in file order
    filled = 0
    for wanted in range(2):
        for g in range(num_objects):
            if g_ignore[g] == (wanted == 1):
                order[filled] = g
                filled += 1
    taken = np.empty(num_objects, np.bool_)
    for s in range(len(thresholds)):
        taken[:] = False
        for d in range(num_detections):
            best = min(thresholds[s], 1 - 1e-10)
            match = -1
            for g in order:
                if taken[g] and not g_crowd[g]:
                    continue
                if match >= 0 and not g_ignore[match] and g_ignore[g]:
                    break
                if iou[d, g] < best:
                    continue
                best = iou[d, g]
                match = g
            partners[s, d] = match
            if match >= 0:
                taken[match] = True
                verdicts[s, d] = IGNORED if g_ignore[match] else TRUE_POSITIVE
            else:
                verdicts[s, d] = IGNORED if d_outside[d] else FALSE_POSITIVE


@compiled
def _match_video(iou, d_begin, g_begin, d_outside, g_ignore, g_crowd, thresholds, verdicts, partners):
    cursor = 0
    for group in range(len(d_begin) - 1):
        d0, d1, g0, g1 = d_begin[group], d_begin[group + 1], g_begin[group], g_begin[group + 1]
        size = (d1 - d0) * (g1 - g0)
        matrix = iou[cursor : cursor + size].reshape((d1 - d0, g1 - g0))
        cursor += size
        for r in range(len(g_ignore)):
            _match_group(
                matrix, d_outside[r, d0:d1], g_ignore[r, g0:g1], g_crowd[g0:g1], thresholds,
                verdicts[r, :, d0:d1], partners[r, :, d0:d1],
            )  # fmt: skip


def match_video(
    iou: np.ndarray,
    d_begin: np.ndarray,
    g_begin: np.ndarray,
    d_outside: np.ndarray,
    g_ignore: np.ndarray,
    g_crowd: np.ndarray,
    thresholds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Match all groups of one video.

    Args:
        iou: float64, the pairs of each group, group after group, row (detection) by row.
        d_begin, g_begin: int64, the groups' extents; detections of a group come by falling score.
        d_outside: bool (R, D), the detection's own area is outside the range: ignored unless matched.
        g_ignore: bool (R, G), the object does not count under this setting.
        g_crowd: bool (G,).
        thresholds: float64 (S,).

    Returns:
        verdicts: uint8 (R, S, D), ``IGNORED``, ``TRUE_POSITIVE`` or ``FALSE_POSITIVE``.
        partners: int32 (R, S, D), the matched object's position within its group, or -1.
    """
    shape = (len(g_ignore), len(thresholds), int(d_begin[-1]))
    verdicts, partners = np.empty(shape, np.uint8), np.empty(shape, np.int32)
    _match_video(iou, d_begin, g_begin, d_outside, g_ignore, g_crowd, thresholds, verdicts, partners)
    return verdicts, partners
