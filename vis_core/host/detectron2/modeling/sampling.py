"""Random choice of a fixed number of training samples."""

import torch
from detectron2.layers import nonzero_tuple


def subsample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose up to ``num_samples`` entries, of which at most ``positive_fraction`` are positive.

    Args:
        labels: (N,) integers; -1 is never chosen, ``bg_label`` is negative, all else is positive.

    Returns:
        Indices (int64) of the chosen positives and of the chosen negatives, each in random order. Negatives fill
        what positives leave open; there may be fewer than ``num_samples`` in all. Draws one permutation of the
        positives and then one of the negatives from the generator of the labels' device.
    """
    positive = nonzero_tuple((labels != -1) & (labels != bg_label))[0]
    negative = nonzero_tuple(labels == bg_label)[0]
    num_positive = min(int(num_samples * positive_fraction), positive.numel())
    num_negative = min(num_samples - num_positive, negative.numel())
    chosen_positive = torch.randperm(positive.numel(), device=labels.device)[:num_positive]
    chosen_negative = torch.randperm(negative.numel(), device=labels.device)[:num_negative]
    return positive[chosen_positive], negative[chosen_negative]
