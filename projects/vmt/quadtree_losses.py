"""What the quadtree refiner is taught (no code of the paper's was released: labels and losses are ours).

Shapes: N instances, T frames, (H, W) true masks, L levels of size (h_l, w_l).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from projects.vmt.losses import dice_loss, incoherence_labels
from projects.vmt.quadtree_grid import Quadtree, resize


def quadtree_labels(masks: torch.Tensor, logits: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """Cells in which the second stage's mask has to be corrected: L bool maps (N, T, h_l, w_l).

    Where the true mask is incoherent at a level (the paper), and (ours) where the mask so far is plainly wrong.

    Args:
        masks: (N, T, H, W) bool, true masks.
        logits: (N, T, h_1, w_1) of the second stage.
        sizes: of the levels.
    """
    labels = []
    for size in sizes:
        size = tuple(size)
        incoherent = incoherence_labels(masks.flatten(0, 1), size).unflatten(0, masks.shape[:2])
        wrong = (resize(logits.float().sigmoid(), size) - resize(masks.float(), size)).abs() > 0.5
        labels.append(incoherent | wrong)
    return labels


def quadtree_losses(tree: Quadtree, masks: torch.Tensor, labels: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses of N instances, summed over these and averaged over levels.

    ``loss_incoherence`` is cross entropy and Dice of the detectors, over all cells; ``loss_nodes`` the cross entropy of
    the corrected masks at the nodes of each level with the share of the cell that the true mask covers.

    Args:
        tree: what was predicted.
        masks: (N, T, H, W) bool, true masks.
        labels: of :func:`quadtree_labels`.
    """
    loss_incoherence = loss_nodes = tree.masks.sum() * 0
    for found, label, corrected, nodes in zip(tree.incoherence, labels, tree.levels, tree.nodes):
        found, wanted = found.float().flatten(1), label.float().flatten(1)
        each = F.binary_cross_entropy_with_logits(found, wanted, reduction="none")
        loss_incoherence = loss_incoherence + each.mean(dim=1).sum() + dice_loss(found, wanted, 1.0)
        covered = resize(masks.float(), tuple(label.shape[-2:])).flatten(1)
        each = F.binary_cross_entropy_with_logits(corrected.float().flatten(1), covered, reduction="none")
        counted = nodes.flatten(1)
        loss_nodes = loss_nodes + ((each * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)).sum()
    return {"loss_incoherence": loss_incoherence / len(labels), "loss_nodes": loss_nodes / len(labels)}
