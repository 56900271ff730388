"""The match loss: does the embedding find the same object in the other frame?

Shapes: P positive proposals of the key frame, M objects of the reference frame.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

DENOMINATORS = ("matched", "positives")


def match_targets(key_ids: torch.Tensor, ref_ids: torch.Tensor) -> torch.Tensor:
    """Column of each positive in the match logits: 1 + the first place of its object among ``ref_ids``, 0 = absent.

    Args:
        key_ids: (P,) int64 identity of each positive's object.
        ref_ids: (M,) int64.

    Returns:
        (P,) int64 in [0, M].
    """
    num_refs = len(ref_ids)
    places = torch.arange(num_refs, device=ref_ids.device).expand(len(key_ids), num_refs)
    places = places.masked_fill(key_ids[:, None] != ref_ids[None, :], num_refs)  # (P, M)
    sentinel = places.new_full((len(key_ids), 1), num_refs)
    first = torch.cat([places, sentinel], dim=1).min(dim=1).values
    return torch.where(first < num_refs, first + 1, 0)


def match_loss(logits: torch.Tensor, targets: torch.Tensor, denominator: str = "matched") -> torch.Tensor:
    """Cross entropy of one pair of frames, summed over positives.

    Args:
        logits: (P, 1 + M) float; column 0 is "not in the reference frame".
        targets: (P,) int64 in [0, M].
        denominator: divide by the number of positives whose object is in the reference frame ("matched": positives
            without partner weigh more the fewer partners there are) or by that of all "positives"; at least by 1.

    Returns:
        Scalar; 0 with its graph intact where there is nothing to learn.
    """
    count = (targets > 0).sum() if denominator == "matched" else torch.tensor(len(targets), device=logits.device)
    return F.cross_entropy(logits.float(), targets, reduction="sum") / count.clamp(min=1)


def match_accuracy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Share of positives (P, 1 + M) whose greatest logit is their target's, in percent; 0 without positives."""
    correct = (logits.argmax(dim=1) == targets).sum()
    return 100.0 * correct / max(len(targets), 1)
