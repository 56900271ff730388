"""The training loop: hooks around steps, and the steps themselves in full and in mixed precision."""

import logging
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from detectron2.engine.metrics import write_metrics
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


class HookBase:
    """What may happen around the steps of a training; override what is needed.

    A training calls ``before_train``; then in each iteration ``before_step``, the step (within it
    ``after_backward``, between backward pass and optimizer step) and ``after_step``; and in the end
    ``after_train``, even if a step failed. ``self.trainer`` is a weak proxy of the trainer.
    """

    trainer: "TrainerBase" = None

    def before_train(self):
        """Before the first iteration."""

    def after_train(self):
        """After the last iteration, or after the one that failed."""

    def before_step(self):
        """Before each iteration."""

    def after_backward(self):
        """When an iteration's gradients are there."""

    def after_step(self):
        """After each iteration."""

    def state_dict(self) -> dict:
        """What a checkpoint keeps of this hook; empty: nothing. ``load_state_dict`` takes it back."""
        return {}


class TrainerBase:
    """Runs ``run_step`` for the iterations ``start_iter … max_iter - 1`` with hooks around it.

    Attributes:
        iter: the current iteration; ``max_iter`` once the training is finished.
        start_iter: the first iteration.
        max_iter: the iteration after the last.
        storage: the :class:`EventStorage` of the running training.
    """

    def __init__(self):
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int = 0
        self.storage: EventStorage | None = None

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Append hooks, which are called in this order; ``None`` is left out."""
        for hook in hooks:
            if hook is None:
                continue
            if not isinstance(hook, HookBase):
                raise TypeError(f"not a HookBase: {hook!r}")
            # a weak proxy: hook and trainer would otherwise keep each other alive
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the iterations ``start_iter … max_iter - 1``.

        An exception in a step is logged, ``after_train`` runs, and the exception goes on.
        """
        logger = logging.getLogger(__name__)
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # after_train tells by iter == max_iter that the training was finished
                self.iter += 1
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        """One iteration."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """``{"iteration", "hooks": {class name: state}}``; ``hooks`` only if one has a state."""
        hook_states: dict[str, dict] = {}
        for hook in self._hooks:
            state = hook.state_dict()
            if state:
                # of two hooks of a class the first is kept
                hook_states.setdefault(type(hook).__qualname__, state)
        return {"iteration": self.iter, **({"hooks": hook_states} if hook_states else {})}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        hooks = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            else:
                logging.getLogger(__name__).warning("The state of hook '%s' is not used: there is no such hook", name)


class SimpleTrainer(TrainerBase):
    """A step of the most common kind: one batch, a dict of losses, one optimizer, one step.

    Args:
        model: in training mode gives a dict of scalar losses, or one scalar; is put into training mode.
        data_loader: endless iterable of what the model takes.
        optimizer: a torch optimizer.
        gather_metric_period: metrics of all processes are gathered every so many iterations.
        zero_grad_before_forward: zero the gradients before the forward instead of before the backward pass.
        async_write_metrics: write metrics in a thread of its own, which spares the step a wait for the device.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ):
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self._data_loader_iter_obj: Iterator | None = None
        # one thread only, so that metrics are written in order and collectives stay aligned over processes
        self._metric_thread = ThreadPoolExecutor(max_workers=1) if async_write_metrics else None
        self._metrics_under_way: Future | None = None

    @property
    def _data_loader_iter(self) -> Iterator:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder) -> None:
        """Replace the loader by what ``data_loader_builder()`` gives; the old one is let go before."""
        self.data_loader = self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def run_step(self) -> None:
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss_dict, losses = _as_losses(self.model(data))
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        losses.backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        # The gradients are final only here; clipping or the like belongs into the optimizer's step.
        self.optimizer.step()

    def _next_batch(self) -> tuple[Any, float]:
        """The next batch and the seconds that it took."""
        if not self.model.training:
            raise AssertionError(f"{type(self).__name__}: the model has been put into evaluation mode")
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        return data, time.perf_counter() - start

    def _write_metrics(self, loss_dict: Mapping[str, torch.Tensor], data_time: float, prefix: str = "") -> None:
        if (self.iter + 1) % self.gather_metric_period != 0:
            return
        detached = {name: value.detach() for name, value in loss_dict.items()}
        storage = get_event_storage()
        if self._metric_thread is None:
            write_metrics(detached, data_time, storage, self.iter, prefix)
        else:
            self._finish_metrics()
            self._metrics_under_way = self._metric_thread.submit(
                write_metrics, detached, data_time, storage, self.iter, prefix
            )

    def _finish_metrics(self) -> None:
        """Wait for the thread; an infinite loss is raised here, one iteration late."""
        under_way, self._metrics_under_way = self._metrics_under_way, None
        if under_way is not None:
            under_way.result()

    def after_train(self) -> None:
        super().after_train()
        self._finish_metrics()
        if self._metric_thread is not None:
            self._metric_thread.shutdown(wait=True)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """:class:`SimpleTrainer` with the forward pass under ``torch.autocast``.

    On CUDA with float16 the loss is scaled; the optimizer's step sees true gradients. On the CPU, which has no
    float16 arithmetic worth having, float16 becomes bfloat16.

    Args:
        grad_scaler: a ``torch.amp.GradScaler`` instead of the one built here.
        precision: ``torch.float16`` or ``torch.bfloat16``.
        log_grad_scaler: record the scale as ``[metric]grad_scaler``.

    The others are those of :class:`SimpleTrainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ):
        if isinstance(model, (DataParallel, DistributedDataParallel)) and len(model.device_ids or []) > 1:
            raise AssertionError("AMPTrainer needs one device a process")
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        self.device_type = next(model.parameters()).device.type
        if self.device_type == "cpu" and precision == torch.float16:
            logging.getLogger(__name__).info("Mixed precision on the CPU: bfloat16 instead of float16")
            precision = torch.bfloat16
        if grad_scaler is None and self.device_type == "cuda" and precision == torch.float16:
            grad_scaler = torch.amp.GradScaler("cuda")
        self.precision = precision
        self.grad_scaler = grad_scaler
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with torch.autocast(self.device_type, dtype=self.precision):
            loss_dict, losses = _as_losses(self.model(data))
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()

        if self.grad_scaler is None:
            losses.backward()
            self.after_backward()
            self._write_metrics(loss_dict, data_time)
            self.optimizer.step()
            return
        self.grad_scaler.scale(losses).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Also ``grad_scaler`` where the loss is scaled."""
        scaler = {} if self.grad_scaler is None else {"grad_scaler": self.grad_scaler.state_dict()}
        return {**super().state_dict(), **scaler}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # A run may change precision or device when it is resumed: then one of the two is missing.
        if self.grad_scaler is not None and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _as_losses(output: Mapping[str, torch.Tensor] | torch.Tensor) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
    """A model's output as (named losses, their sum)."""
    if isinstance(output, torch.Tensor):
        return {"total_loss": output}, output
    return output, sum(output.values())
