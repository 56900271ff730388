"""Assignment of predictions to ground truth by a quality threshold (Ren et al., NeurIPS 2015, section 3.1.2)."""

import math

import torch


class Matcher:
    """Gives every prediction its best ground truth and a label by how good that one is.

    Args:
        thresholds: n ascending quality levels.
        labels: n + 1 labels of {-1: ignore, 0: negative, 1: positive}; ``labels[i]`` is for qualities from
            ``thresholds[i - 1]`` (included) to ``thresholds[i]`` (excluded).
        allow_low_quality_matches: makes positive, whatever their quality, the predictions that are the best one of
            some ground truth (ties included). Which ground truth they belong to stays as it is.
    """

    def __init__(self, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool = False):
        self.thresholds = [-math.inf, *thresholds, math.inf]
        assert all(low <= high for low, high in zip(self.thresholds, self.thresholds[1:])), f"{thresholds} descend"
        assert all(label in (-1, 0, 1) for label in labels), f"labels {labels} are not all of -1, 0, 1"
        assert len(labels) == len(thresholds) + 1, f"{len(thresholds)} thresholds part {len(labels)} labels"
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(M ground truths, N predictions) non-negative -> matches (N,) int64 in [0, M), labels (N,) int8.

        Without ground truth every match is 0 and every label is the lowest interval's.
        """
        assert match_quality_matrix.dim() == 2, f"expected an (M, N) matrix, got {tuple(match_quality_matrix.shape)}"
        num_predictions = match_quality_matrix.shape[1]
        if match_quality_matrix.numel() == 0:
            matches = match_quality_matrix.new_zeros(num_predictions, dtype=torch.int64)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        assert bool((match_quality_matrix >= 0).all()), "match qualities must not be negative"

        best_quality, matches = match_quality_matrix.max(dim=0)  # (N,), (N,)
        labels = torch.full_like(matches, self.labels[0], dtype=torch.int8)
        for label, low in zip(self.labels[1:], self.thresholds[1:]):
            labels[best_quality >= low] = label
        if self.allow_low_quality_matches:
            best_of_gt = match_quality_matrix.max(dim=1, keepdim=True).values  # (M, 1)
            labels[(match_quality_matrix == best_of_gt).any(dim=0)] = 1
        return matches, labels
