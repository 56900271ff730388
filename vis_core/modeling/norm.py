"""Normalisation whose statistics stay fixed while its weight and bias are trained."""

from __future__ import annotations

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn


class FrozenStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses its running statistics and never updates them; weight and bias are trained.

    This is how mmdetection fine-tunes a backbone (``norm_eval``). Detectron2's FrozenBatchNorm2d fixes weight and bias
    too, and counts as no normalisation layer for ``SOLVER.WEIGHT_DECAY_NORM``; this one does.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps)
        self.num_batches_tracked = None  # nothing is tracked, and files without it are complete

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W)."""
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        # A file without module versions would make the base class look for num_batches_tracked.
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": self._version}, *args)


def freeze_bn_statistics(module: nn.Module) -> nn.Module:
    """Replace every trained batch norm (also the synchronised one) inside ``module`` in place, keeping its values.

    No layer keeps a count of batches then, frozen ones included: published files have no use for it.
    Returns the module, or its replacement if it is a batch norm itself.
    """
    if isinstance(module, FrozenBatchNorm2d):
        module.num_batches_tracked = None
    if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)) and not isinstance(module, FrozenStatsBatchNorm2d):
        frozen = FrozenStatsBatchNorm2d(module.num_features, eps=module.eps)
        frozen.weight, frozen.bias = module.weight, module.bias
        frozen.running_mean, frozen.running_var = module.running_mean, module.running_var
        return frozen
    for name, child in module.named_children():
        replacement = freeze_bn_statistics(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module
