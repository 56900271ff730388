"""Hooks of a training: timing, schedule, saving, writing. (Evaluation: ``eval_hooks``.)"""

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from detectron2.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from detectron2.engine.eval_hooks import BestCheckpointer, EvalHook
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.solver import LRMultiplier
from detectron2.utils.events import EventStorage, EventWriter
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
]


class CallbackHook(HookBase):
    """Calls the given functions, each with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callable[[TrainerBase], None] | None = None,
        after_train: Callable[[TrainerBase], None] | None = None,
        before_step: Callable[[TrainerBase], None] | None = None,
        after_step: Callable[[TrainerBase], None] | None = None,
    ):
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step

    def before_train(self):
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self):
        if self._after_train:
            self._after_train(self.trainer)
        # the functions may hold on to what the training no longer needs
        self._before_train = self._after_train = self._before_step = self._after_step = None

    def before_step(self):
        if self._before_step:
            self._before_step(self.trainer)

    def after_step(self):
        if self._after_step:
            self._after_step(self.trainer)


class IterationTimer(HookBase):
    """Records the seconds of an iteration as ``time``, and logs the mean speed in the end.

    Args:
        warmup_iter: first iterations that are not counted.
    """

    def __init__(self, warmup_iter: int = 3):
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()  # runs within steps only: what other hooks take is not counted
        self._start_time = time.perf_counter()

    def before_train(self):
        self._start_time = time.perf_counter()
        self._total_timer.reset()
        self._total_timer.pause()

    def before_step(self):
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self):
        iterations_done = self.trainer.iter - self.trainer.start_iter + 1
        if iterations_done >= self._warmup_iter:
            self.trainer.storage.put_scalars(time=self._step_timer.seconds())
        else:
            self._start_time = time.perf_counter()
            self._total_timer.reset()
        self._total_timer.pause()

    def after_train(self):
        iterations = self.trainer.iter - self.trainer.start_iter - self._warmup_iter
        seconds = self._total_timer.seconds()
        if iterations <= 0 or seconds <= 0:
            return
        wall = time.perf_counter() - self._start_time
        logging.getLogger(__name__).info(
            "%d iterations in %s (%.4f s / it); %s with hooks",
            iterations,
            datetime.timedelta(seconds=int(seconds)),
            seconds / iterations,
            datetime.timedelta(seconds=int(wall)),
        )


class LRScheduler(HookBase):
    """Records ``lr`` and steps the schedule after every iteration.

    Args:
        optimizer: ``None``: the trainer's.
        scheduler: a torch scheduler, or a fvcore ``ParamScheduler`` as multiplier of the rates; ``None``: the
            trainer's.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None = None, scheduler=None):
        self._optimizer = optimizer
        self._scheduler = scheduler

    def before_train(self):
        self._optimizer = self._optimizer or self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, self.trainer.max_iter, last_iter=self.trainer.iter - 1
            )
        self._logged_group = representative_group(self._optimizer)

    def after_step(self):
        lr = self._optimizer.param_groups[self._logged_group]["lr"]
        self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self):
        return self._scheduler or self.trainer.scheduler

    def state_dict(self) -> dict:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            logging.getLogger(__name__).info("Loading the learning-rate schedule's state")
            self.scheduler.load_state_dict(state_dict)


def representative_group(optimizer: torch.optim.Optimizer) -> int:
    """Index of the parameter group whose rate is shown: the one of most parameters.

    Where every group has one parameter, the first of those with the most common rate.
    """
    groups = optimizer.param_groups
    sizes = [len(group["params"]) for group in groups]
    if max(sizes) > 1:
        return sizes.index(max(sizes))
    rates = [group["lr"] for group in groups]
    return rates.index(Counter(rates).most_common(1)[0][0])


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's PeriodicCheckpointer as a hook: saves every ``period`` iterations and after the last."""

    def before_train(self):
        self.max_iter = self.trainer.max_iter

    def after_step(self):
        self.step(self.trainer.iter)


class PeriodicWriter(HookBase):
    """Lets the writers write every ``period`` iterations, after the last one and after the training.

    Args:
        writers: :class:`EventWriter` objects; closed after the training.
        period: in iterations.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise AssertionError(f"not an EventWriter: {writer!r}")
        self._writers = writers
        self._period = period

    def after_step(self):
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self):
        for writer in self._writers:
            # what other hooks recorded after the last step, an evaluation say
            writer.write()
            writer.close()


class PreciseBN(HookBase):
    """Replaces the running statistics of batch normalisation by exact ones over some batches.

    Does nothing for a model without batch normalisation in training mode. Wu & Johnson, "Rethinking 'Batch' in
    BatchNorm", section 3.

    Args:
        period: in iterations; 0: only after the last one.
        model: the model, in training mode.
        data_loader: its batches are fed to the model.
        num_iter: number of batches.
    """

    def __init__(self, period: int, model: torch.nn.Module, data_loader: Iterable, num_iter: int):
        self._enabled = bool(get_bn_modules(model))
        if not self._enabled:
            logging.getLogger(__name__).info("PreciseBN: the model has no batch normalisation in training mode")
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._batches = None

    def after_step(self):
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Recompute the statistics now."""
        if not self._enabled:
            return
        if self._batches is None:
            self._batches = iter(self._data_loader)
        # what the model records on these batches does not belong to the training
        with EventStorage():
            update_bn_stats(self._model, self._batches, self._num_iter, progress=None)
