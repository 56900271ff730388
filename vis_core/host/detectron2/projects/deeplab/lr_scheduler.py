"""Polynomial decay of the learning rate with a warmup."""

import torch
from torch.optim.lr_scheduler import LRScheduler


class WarmupPolyLR(LRScheduler):
    """Learning rate = base * warmup * (1 - iteration / max_iters) ** power.

    Args:
        max_iters: iterations until the rate is 0.
        warmup_factor, warmup_iters: during the first ``warmup_iters`` iterations the rate has a factor that starts
            at ``warmup_factor``.
        warmup_method: ``"linear"`` lets that factor grow to 1, ``"constant"`` keeps it.
        constant_ending: > 0: after the warmup the rate does not fall below this share of its base.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ):
        if warmup_method not in ("linear", "constant"):
            raise ValueError(f"warmup method {warmup_method!r} is neither 'linear' nor 'constant'")
        self.max_iters = max_iters
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        self.power = power
        self.constant_ending = constant_ending
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Rate of each parameter group at iteration ``last_epoch``."""
        warmup = self._warmup()
        decay = (1.0 - self.last_epoch / self.max_iters) ** self.power
        if warmup == 1.0 and self.constant_ending > 0:
            decay = max(decay, self.constant_ending)
        return [base * warmup * decay for base in self.base_lrs]

    def _warmup(self) -> float:
        if self.last_epoch >= self.warmup_iters:
            return 1.0
        if self.warmup_method == "constant":
            return self.warmup_factor
        progress = self.last_epoch / self.warmup_iters
        return self.warmup_factor * (1 - progress) + progress
