"""Detections to tracks by affinity: how alike their embeddings are, and who goes to whom.

Shapes: N detections of the frame, best first, M tracks in memory, C values of an embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

UNMATCHED = -1


def bisoftmax(embeds: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Mean of the softmax of the dot products over tracks and over detections (quasi-dense tracking, arXiv 2006.06664).

    A lone detection has at least 0.5 with every track, however unlike them it is.

    Args:
        embeds: (N, C) float, references: (M, C) float.

    Returns:
        (N, M) float in (0, 1].
    """
    logits = embeds @ references.T
    return (logits.softmax(dim=1) + logits.softmax(dim=0)) / 2


def cosine_similarity(embeds: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Cosines (N, M) of the angles between embeddings (N, C) and (M, C)."""
    return F.normalize(embeds, dim=1) @ F.normalize(references, dim=1).T


def greedy_association(affinity: np.ndarray, min_affinity: float, num_frames: np.ndarray | None = None) -> list[int]:
    """Serve detections in order; each takes its best free track if their affinity exceeds ``min_affinity``.

    Args:
        affinity: (N, M) float.
        min_affinity: below it (or at it) nothing is matched.
        num_frames: (M,) in how many frames each track was seen. Where more than one track is eligible, affinities
            are multiplied by it before the best is taken, those of ineligible tracks by the mean of the eligible
            ones, so that a track of long standing is preferred to a short one that is a little more alike.

    Returns:
        N track indices, ``UNMATCHED`` (-1) for a detection without a track.
    """
    affinity = affinity.copy()
    columns = [UNMATCHED] * len(affinity)
    if affinity.shape[1] == 0:
        return columns
    for row, values in enumerate(affinity):
        eligible = values > min_affinity
        if num_frames is not None and eligible.sum() > 1:
            values = values * np.where(eligible, num_frames, num_frames[eligible].mean()).astype(values.dtype)
        column = int(values.argmax())  # the first of equals
        if values[column] > min_affinity:
            columns[row] = column
            affinity[:, column] = -np.inf
    return columns


def optimal_association(affinity: np.ndarray, min_affinity: float) -> list[int]:
    """One-to-one assignment of the greatest total affinity (Hungarian method), pairs below ``min_affinity`` undone.

    Args and returns as for :func:`greedy_association`, but that a pair at ``min_affinity`` is matched.
    """
    columns = [UNMATCHED] * len(affinity)
    for row, column in zip(*linear_sum_assignment(-affinity)):
        if affinity[row, column] >= min_affinity:
            columns[row] = int(column)
    return columns
