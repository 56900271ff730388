"""Region similarity J and boundary accuracy F of DAVIS (Perazzi et al., "A Benchmark Dataset and Evaluation Methodology
for Video Object Segmentation", CVPR 2016), and how proposals are matched with objects in the unsupervised task of the
DAVIS challenge 2019 (Caelles et al., arXiv 1905.00737).

Shapes: P proposals, G objects, T frames, (H, W) pixels. A label map is an integer array (H, W): 0 = background,
k = object or proposal number k, counted from 1; objects of one map cannot overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

BOUNDARY_TOLERANCE = 0.008  # share of the image diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4


@dataclass(frozen=True)
class Scores:
    """J and F, float64 in [0, 1], of one shape: (P, G), (P, G, T) or (G, T)."""

    region: np.ndarray
    boundary: np.ndarray

    @staticmethod
    def stack(frames: list[Scores]) -> Scores:
        """One new last axis over frames."""
        return Scores(np.stack([x.region for x in frames], axis=-1), np.stack([x.boundary for x in frames], axis=-1))


def tolerance(height: int, width: int, share: float = BOUNDARY_TOLERANCE) -> int:
    """How far apart two boundary pixels may lie and still agree: ``share`` of the diagonal, rounded up, in pixels."""
    return math.ceil(share * math.hypot(height, width))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Bool (H, W): the pixels that differ from the one below, to the right, or below to the right.

    Below the last row and right of the last column the image goes on as it ends, so an object that leaves the image has
    no boundary there.
    """
    mask = np.asarray(mask, dtype=bool)
    below, right = mask.copy(), mask.copy()
    below[:-1] = mask[1:]
    right[:, :-1] = mask[:, 1:]
    diagonal = right.copy()
    diagonal[:-1] = right[1:]
    return (mask ^ below) | (mask ^ right) | (mask ^ diagonal)


def frame_scores(
    truth: np.ndarray, predicted: np.ndarray, num_objects: int, num_proposals: int, void: np.ndarray | None = None
) -> Scores:
    """J and F (P, G) of every proposal with every object in one frame.

    J is the intersection over the union. F is the harmonic mean of the shares of either boundary that has a pixel of
    the other one within :func:`tolerance`. An object that neither map shows counts 1; one that only one shows counts 0.

    Args:
        truth, predicted: label maps with labels up to G and P.
        void: bool (H, W); pixels that count for nothing.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps differ in size: {truth.shape} and {predicted.shape}")
    if void is not None:
        truth, predicted = np.where(void, 0, truth), np.where(void, 0, predicted)
    overlap = np.bincount(
        (predicted.astype(np.int64) * (num_objects + 1) + truth).ravel(),
        minlength=(num_proposals + 1) * (num_objects + 1),
    ).reshape(num_proposals + 1, num_objects + 1)
    areas = overlap.sum(axis=1)[1:, None] + overlap.sum(axis=0)[None, 1:]
    overlap = overlap[1:, 1:]  # (P, G)
    region = _ratio(overlap, areas - overlap)

    radius = tolerance(*truth.shape)
    ours = [_Boundary.of(predicted == k + 1, radius) for k in range(num_proposals)]
    theirs = [_Boundary.of(truth == k + 1, radius) for k in range(num_objects)]
    boundary = [[_f_measure(p, g) for g in theirs] for p in ours]
    return Scores(region, np.array(boundary, dtype=np.float64).reshape(num_proposals, num_objects))


@dataclass(frozen=True)
class _Boundary:
    """Positions of a boundary's pixels, and the pixels (H, W) that are close to one."""

    pixels: tuple[np.ndarray, np.ndarray]
    near: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, radius: int) -> _Boundary:
        boundary = boundary_map(mask)
        rows, columns = np.nonzero(boundary)
        near = np.zeros(mask.shape, dtype=np.uint8)
        if len(rows):
            # Only the object's surroundings can be close to it.
            top, left = max(rows.min() - radius, 0), max(columns.min() - radius, 0)
            window = slice(top, rows.max() + radius + 1), slice(left, columns.max() + radius + 1)
            near[window] = cv2.dilate(boundary[window].astype(np.uint8), _disk(radius))
        return cls((rows, columns), near)

    def __len__(self) -> int:
        return len(self.pixels[0])


def _disk(radius: int) -> np.ndarray:
    """uint8 (2 r + 1, 2 r + 1): 1 where the centre is at most ``radius`` away."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


def _f_measure(ours: _Boundary, theirs: _Boundary) -> float:
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    precision = theirs.near[ours.pixels].sum() / len(ours)
    recall = ours.near[theirs.pixels].sum() / len(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 1 where both are 0."""
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))


def match(scores: Scores) -> tuple[Scores, np.ndarray]:
    """Assign one proposal to each object so that the mean of J and F over objects and frames is greatest.

    Args:
        scores: (P, G, T) with P >= G; proposals that are empty in all frames make up what is missing.

    Returns:
        Scores (G, T) of the assigned proposals, and their indices, int64 (G,).
    """
    quality = (scores.region.mean(axis=2) + scores.boundary.mean(axis=2)) / 2  # (P, G)
    proposals, objects = linear_sum_assignment(quality, maximize=True)
    chosen = proposals[np.argsort(objects)]
    rows = chosen, np.arange(len(chosen))
    return Scores(scores.region[rows], scores.boundary[rows]), chosen


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, recall (share of frames above 0.5) and decay (first minus last quarter) of one object's values (T,).

    The quarters share the frame at which they meet.
    """
    ends = np.floor(np.linspace(1, len(values), DECAY_BINS + 1) + 0.5 + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return {
        "Mean": float(values.mean()),
        "Recall": float((values > RECALL_THRESHOLD).mean()),
        "Decay": float(first.mean() - last.mean()),
    }
