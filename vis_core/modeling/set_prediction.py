"""What the losses of predictions without an order share (DETR, arXiv 2005.12872, and its descendants)."""

from __future__ import annotations

import torch
from detectron2.utils.comm import get_world_size

Match = tuple[torch.Tensor, torch.Tensor]  # queries and objects, (n,) int64 each, aligned, by ascending query


def mean_num_objects(count: int, device: torch.device) -> torch.Tensor:
    """Objects of a batch, averaged over the processes, at least 1: what losses are divided by."""
    total = torch.tensor(float(count), device=device)
    if get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return (total / get_world_size()).clamp(min=1)
