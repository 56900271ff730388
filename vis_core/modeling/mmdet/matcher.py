"""Which ground-truth object a box is trained for, by mmdetection's rule.

Shapes: M ground-truth objects, N predictions.
"""

from __future__ import annotations

import torch
from detectron2.modeling.matcher import Matcher


class LowQualityMatcher:
    """Threshold matching after which every object claims the predictions that overlap it most.

    An object whose best overlap is at least ``min_quality`` takes all predictions that reach that best, ties included,
    even those that overlap another object more; of several objects the last takes a prediction. Detectron2's rule
    knows no minimum and leaves such predictions with the object that they overlap most.
    """

    def __init__(self, thresholds: list[float], labels: list[int], min_quality: float) -> None:
        """``thresholds`` and ``labels`` as in :class:`detectron2.modeling.matcher.Matcher`; 0 < min_quality <= 1."""
        self.matcher = Matcher(thresholds, labels, allow_low_quality_matches=False)
        self.min_quality = min_quality

    def __call__(self, quality: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Match by overlaps (M, N) in [0, 1]; returns objects (N,) int64 and labels (N,) int8."""
        matches, labels = self.matcher(quality)
        if quality.numel() == 0:
            return matches, labels
        best = quality.max(dim=1, keepdim=True).values  # (M, 1)
        claimed = (quality == best) & (best >= self.min_quality)  # (M, N)
        order = torch.arange(1, len(quality) + 1, device=quality.device)[:, None]
        claimant = (claimed * order).max(dim=0).values  # (N,); 0 = nobody
        matches = torch.where(claimant > 0, claimant - 1, matches)
        labels = torch.where(claimant > 0, torch.ones_like(labels), labels)
        return matches, labels
