"""From verdicts to precision, recall and score arrays, and from those to the named statistics.

Shapes: D detections of the whole data set, R settings (area range x occlusion level), S IoU thresholds, P recall
points, K categories, L limits on detections per video and category.
"""

from __future__ import annotations

import numpy as np

from vis_core.evaluation.matching import FALSE_POSITIVE, TRUE_POSITIVE
from vis_core.jit import compiled

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)  # not k / 100: ten of them differ in the last bit, and the search is exact
MAX_DETECTIONS = (1, 10, 100)
AREA_RANGES = {"all": (0, 1e10), "small": (0, 128**2), "medium": (128**2, 256**2), "large": (256**2, 1e10)}
OCCLUSION_RANGES = {"all": (0.0, 1.0), "light": (0.0, 0.25), "medium": (0.25, 0.5), "heavy": (0.5, 1.0)}


@compiled
def _curve(verdicts, scores, num_objects, recall_points, precision_out, scores_out):
    """One precision curve from the verdicts (D,) in the order of falling score; returns the final recall."""
    count = len(verdicts)
    recall, precision = np.empty(count), np.empty(count)
    tp, fp = 0.0, 0.0
    for d in range(count):
        tp += verdicts[d] == TRUE_POSITIVE
        fp += verdicts[d] == FALSE_POSITIVE
        recall[d] = tp / num_objects
        precision[d] = tp / (fp + tp + np.finfo(np.float64).eps)
    for d in range(count - 1, 0, -1):
        precision[d - 1] = max(precision[d - 1], precision[d])
    at = 0
    for point in range(len(recall_points)):
        while at < count and recall[at] < recall_points[point]:
            at += 1
        precision_out[point] = precision[at] if at < count else 0.0
        scores_out[point] = scores[at] if at < count else 0.0
    return recall[count - 1] if count else 0.0


@compiled
def _accumulate(verdicts, scores, ranks, begin, num_objects, limits, recall_points, precision, recall, curve_scores):
    """All curves, of detections sorted by category, then falling score; entries where nothing counts are left."""
    num_settings, num_thresholds = verdicts.shape[:2]
    for k in range(len(begin) - 1):
        for limit in range(len(limits)):
            kept = begin[k] + np.nonzero(ranks[begin[k] : begin[k + 1]] < limits[limit])[0]
            kept_scores = scores[kept]
            for r in range(num_settings):
                if num_objects[k, r] == 0:
                    continue
                for s in range(num_thresholds):
                    recall[s, k, r, limit] = _curve(
                        verdicts[r, s][kept], kept_scores, num_objects[k, r], recall_points,
                        precision[s, :, k, r, limit], curve_scores[s, :, k, r, limit],
                    )  # fmt: skip


def accumulate(
    verdicts: np.ndarray, scores: np.ndarray, ranks: np.ndarray, categories: np.ndarray, num_objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and score arrays, -1 where a category has no object that counts.

    Args:
        verdicts: uint8 (R, S, D), detections by ascending video id and, within a video and category, by rank.
        scores: float64 (D,).
        ranks: int64 (D,), position among the detections of the same video and category, from 0.
        categories: int64 (D,), index of the category, 0 to K - 1.
        num_objects: int64 (K, R), objects that count.

    Returns:
        precision (S, P, K, R, L), recall (S, K, R, L), scores (S, P, K, R, L), all float64.
    """
    order = np.lexsort((-scores, categories))  # stable: ties keep the order of videos
    begin = np.searchsorted(categories[order], np.arange(len(num_objects) + 1))
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), len(num_objects), num_objects.shape[1], len(MAX_DETECTIONS))
    precision, curve_scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full(shape[:1] + shape[2:], -1.0)
    _accumulate(
        np.ascontiguousarray(verdicts[:, :, order]), scores[order], ranks[order], begin, num_objects,
        np.array(MAX_DETECTIONS), RECALL_POINTS, precision, recall, curve_scores,
    )  # fmt: skip
    return precision, recall, curve_scores


def mean_of_present(values: np.ndarray) -> float:
    """Mean of all entries above -1, or -1 if there are none."""
    present = values[values > -1]
    return float(np.mean(present)) if len(present) else -1.0


def summarise(precision: np.ndarray, recall: np.ndarray, occlusion: bool) -> dict[str, float]:
    """The 12 statistics (18 with ``occlusion``) in [0, 1], -1 where undefined, in their customary order.

    ``precision`` (S, P, K, A, L) or (S, P, K, A, O, L) and ``recall`` (S, K, A, L) or (S, K, A, O, L).
    """
    if not occlusion:
        precision, recall = precision[:, :, :, :, None], recall[:, :, :, None]
    sizes = {"s": 1, "m": 2, "l": 3}
    levels = {"light": 1, "medium": 2, "heavy": 3} if occlusion else {}

    def ap(thresholds: slice = slice(None), size: int = 0, level: int = 0) -> float:
        return mean_of_present(precision[thresholds, :, :, size, level, -1])

    def ar(limit: int = -1, size: int = 0, level: int = 0) -> float:
        return mean_of_present(recall[:, :, size, level, limit])

    return {
        "AP": ap(),
        "AP50": ap(slice(0, 1)),
        "AP75": ap(slice(5, 6)),
        **{f"AP{name}": ap(size=axis) for name, axis in sizes.items()},
        **{f"APo_{name}": ap(level=axis) for name, axis in levels.items()},
        **{f"AR{limit}": ar(axis) for axis, limit in enumerate(MAX_DETECTIONS)},
        **{f"AR{name}": ar(size=axis) for name, axis in sizes.items()},
        **{f"ARo_{name}": ar(level=axis) for name, axis in levels.items()},
    }
