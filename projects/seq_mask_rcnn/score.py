"""What class a sequence is, by the detector's own box head.

Shapes: N objects, K classes, (H, W) the padded image.
"""

from __future__ import annotations

import torch
from detectron2.modeling import StandardROIHeads
from detectron2.structures import Boxes


def mask_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tight boxes enlarged by a pixel on each side, within the map.

    Args:
        masks: (N, H, W) bool.

    Returns:
        Boxes (N, 4) float32, x1 y1 x2 y2, the whole map for an empty mask; and which masks are not empty, (N,) bool.
    """
    present = masks.flatten(1).any(dim=1)
    starts, ends = [], []
    for pixels in (masks.any(dim=1), masks.any(dim=2)):  # columns (N, W), rows (N, H)
        length = pixels.shape[1]
        place = torch.arange(length, device=masks.device)
        first = torch.where(pixels, place, length).amin(dim=1)
        last = torch.where(pixels, place, -1).amax(dim=1)
        starts.append(torch.where(present, (first - 1).clamp(min=0), 0))
        ends.append(torch.where(present, (last + 2).clamp(max=length), length))
    return torch.stack(starts + ends, dim=1).float(), present


def classify(heads: StandardROIHeads, features: dict[str, torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """Class probabilities (N, K + 1), background last, of one image's boxes (N, 4)."""
    pooled = heads.box_pooler([features[name] for name in heads.box_in_features], [Boxes(boxes)])
    logits, _ = heads.box_predictor(heads.box_head(pooled))
    return logits.softmax(dim=1)


class SequenceScores:
    """Mean class probabilities of N sequences, collected frame by frame in any order."""

    def __init__(self, num_sequences: int, num_classes: int, device: torch.device) -> None:
        self.sums = torch.zeros(num_sequences, num_classes, dtype=torch.float64, device=device)
        self.counts = torch.zeros(num_sequences, dtype=torch.int64, device=device)

    def add(self, probabilities: torch.Tensor, present: torch.Tensor) -> None:
        """One frame's probabilities (N, K + 1); those of sequences that are not ``present`` (N,) do not count."""
        self.sums += probabilities[:, :-1] * present[:, None]
        self.counts += present

    def mean(self, num_frames: int | None = None) -> torch.Tensor:
        """(N, K) float32 on the CPU, without background: means over ``num_frames``, or where each was present."""
        count = self.counts.clamp(min=1)[:, None] if num_frames is None else num_frames
        return (self.sums / count).float().cpu()
