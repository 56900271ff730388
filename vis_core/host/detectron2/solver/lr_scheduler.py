"""Learning-rate schedules: a base rate times a function of training progress."""

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["LRMultiplier", "LRScheduler", "WarmupParamScheduler"]


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule whose first part is replaced by a warm-up.

    With ``s`` the given schedule and ``w`` the warm-up's share of training, the warm-up starts at
    ``warmup_factor * s(0)`` and reaches the value at which ``s`` takes over.

    Args:
        scheduler: maps progress in [0, 1] to a multiplier.
        warmup_factor: first value, relative to ``s(0)``.
        warmup_length: share of training that warms up, in [0, 1].
        warmup_method: ``"linear"`` (straight line) or ``"constant"`` (stay at the first value).
        rescale_interval: False: ``s`` goes on as if there had been no warm-up, from ``s(w)``;
            True: the whole of ``s`` is squeezed into the time that is left, from ``s(0)``.

    Raises:
        ValueError: unknown ``warmup_method``.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        first = warmup_factor * scheduler(0.0)
        if warmup_method == "linear":
            last = scheduler(0.0) if rescale_interval else scheduler(warmup_length)
            warmup = LinearParamScheduler(first, last)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        else:
            raise ValueError(f"warm-up method must be 'linear' or 'constant', got '{warmup_method}'")
        super().__init__(
            schedulers=[warmup, scheduler],
            lengths=[warmup_length, 1.0 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Sets every group's rate to ``base_lr * multiplier(iteration / max_iter)``.

    It is stepped once an iteration. A saved state holds ``base_lrs`` and ``last_epoch`` (here: the iteration)
    alone, so that a run may be resumed under another multiplier or length.

    Args:
        optimizer: its groups' rates at construction are the base rates.
        multiplier: maps progress in [0, 1] to a factor.
        max_iter: length of the whole training.
        last_iter: the iteration before the next one; -1 for a fresh start.

    Raises:
        ValueError: ``multiplier`` is not a fvcore ``ParamScheduler``.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1):
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be an fvcore ParamScheduler, got {type(multiplier).__name__}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def get_lr(self) -> list[float]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]

    def state_dict(self) -> dict:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}
