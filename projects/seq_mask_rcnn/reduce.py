"""From many sequences to distinct ones: NMS over sequences.

Shapes: N sequences, T frames, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode

from vis_core.evaluation.tube_iou import quotient, tube_sums
from vis_core.evaluation.tubes import decode_tubes


def sequence_iou(sequences: Sequence[Sequence[dict | None]]) -> np.ndarray:
    """IoU of all pairs, (N, N) float64: pixels common over all frames by pixels of either, 0 for two empty ones.

    Args:
        sequences: N lists of T RLEs or None.
    """
    decoded = decode_tubes(sequences, lambda n: f"sequence {n}")
    group = np.array([0, len(sequences)])
    common, union = tube_sums(decoded, decoded, group, group)
    return quotient(common, union).reshape(len(sequences), len(sequences))


def seq_nms(scores: np.ndarray, ious: np.ndarray, iou_thresh: float, score_thresh: float) -> list[int]:
    """Best sequences that do not overlap a better kept one by ``iou_thresh`` or more, best first.

    The best one is kept whatever its score, the others from ``score_thresh`` on; of equals the first comes first.

    Args:
        scores: (N,). ious: (N, N).
    """
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if kept and scores[i] < score_thresh:
            break
        if not (ious[i, kept] >= iou_thresh).any():
            kept.append(i)
    return kept


def category_aware(scores: np.ndarray, ious: np.ndarray, sigma: float, score_thresh: float, max_seq: int) -> np.ndarray:
    """Soft-NMS for each class by itself: a chosen sequence lowers the others' scores by exp(-IoU^2 / sigma).

    (Bodla et al., ICCV 2017.) All classes go through their choices side by side.

    Args:
        scores: (N, K). ious: (N, N), the same for all classes.
        score_thresh: sequences below it are neither chosen nor lowered further.
        max_seq: at most so many are chosen for a class.

    Returns:
        (N, K) float64: lowered scores, -1 where a sequence was not chosen for the class.
    """
    scores = scores.T.astype(np.float64)  # (K, N)
    out = np.full(scores.shape, -1.0)
    decay = np.exp(-(ious**2) / sigma)
    left = np.ones(scores.shape, bool)
    for _ in range(min(max_seq, scores.shape[1])):
        candidates = np.where(left, scores, -np.inf)
        best = candidates.argmax(axis=1)
        rows = np.flatnonzero(candidates.max(axis=1) >= score_thresh)  # classes that are not done
        if len(rows) == 0:
            break
        best = best[rows]
        out[rows, best] = scores[rows, best]
        left[rows, best] = False
        lowered = left[rows] & (scores[rows] >= score_thresh)
        scores[rows] *= np.where(lowered, decay[best], 1.0)
    return out.T


def seq_soft_nms(
    scores: np.ndarray, ious: np.ndarray, sigma: float, score_thresh: float, max_seq: int
) -> tuple[list[int], list[float]]:
    """:func:`category_aware` for one score a sequence.

    Args:
        scores: (N,).

    Returns:
        Indices and lowered scores of the chosen, in the order of choice; nothing if no score reaches the threshold.
    """
    lowered = category_aware(scores[:, None], ious, sigma, score_thresh, max_seq)[:, 0]
    order = np.argsort(-lowered, kind="stable")  # each choice was the best of those left
    chosen = order[lowered[order] >= 0]
    return chosen.tolist(), lowered[chosen].tolist()


def reduce_sequences(scores: np.ndarray, ious: np.ndarray, settings: CfgNode) -> tuple[list[int], np.ndarray]:
    """The reduction that ``settings`` (MODEL.SEQ_MASK_RCNN) ask for.

    Args:
        scores: (N, K). ious: (N, N).

    Returns:
        Indices of the kept sequences, best first, and their scores (kept, K), -1 for classes they are not put out for.
    """
    if len(scores) == 0:
        return [], scores
    rule, by_class = settings.REDUCE, settings.CATE_REDUCE
    if rule.TYPE == "seq_soft_nms":
        kept, values = seq_soft_nms(scores.max(axis=1), ious, rule.SIGMA, rule.SCORE_THRESH, rule.MAX_SEQ)
        lowered = np.full((len(kept), scores.shape[1]), -1.0)
        lowered[range(len(kept)), scores[kept].argmax(axis=1)] = values
        return kept, lowered
    kept = seq_nms(scores.max(axis=1), ious, rule.IOU_THRESH, rule.SCORE_THRESH)
    if not by_class.ENABLED:
        return kept, scores[kept]
    ious = ious[np.ix_(kept, kept)]
    return kept, category_aware(scores[kept], ious, by_class.SIGMA, by_class.SCORE_THRESH, by_class.MAX_SEQ)
