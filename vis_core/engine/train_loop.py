"""One training step, plain or under autocast, on any device."""

from __future__ import annotations

import time

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer

from vis_core.config import check_choice

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class AutocastTrainer(SimpleTrainer):
    """SimpleTrainer whose forward runs under ``torch.autocast``; scales the loss where the precision needs it.

    Detectron2's AMPTrainer wants CUDA; this one runs wherever autocast does. Gradients are unscaled before the
    optimizer's step, so that clipping sees their true size.
    """

    def __init__(self, model, data_loader, optimizer, *, device_type: str, precision: torch.dtype):
        """
        Args:
            model: returns a dict of losses in training mode.
            data_loader: infinite iterable of batches.
            optimizer: steps once an iteration.
            device_type: "cpu" or "cuda", where the model lives.
            precision: ``torch.bfloat16`` or ``torch.float16``, with loss scaling; on the CPU both mean bfloat16.
        """
        super().__init__(model, data_loader, optimizer)
        self.device_type = device_type
        self.precision = torch.bfloat16 if device_type == "cpu" else precision
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=self.precision == torch.float16)

    def run_step(self) -> None:
        assert self.model.training, "the model was put into eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self.device_type, dtype=self.precision):
            loss_dict = self.model(data)
            losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        # A run may change its precision when it is resumed: then there is no state, or no use for it.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def build_train_loop(cfg: CfgNode, model, data_loader, optimizer) -> SimpleTrainer:
    """The step that ``SOLVER.AMP`` asks for. Raises ConfigError for an unknown precision."""
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer(model, data_loader, optimizer)
    check_choice("SOLVER.AMP.PRECISION", cfg.SOLVER.AMP.PRECISION, PRECISIONS)
    device_type = torch.device(cfg.MODEL.DEVICE).type
    return AutocastTrainer(
        model, data_loader, optimizer, device_type=device_type, precision=PRECISIONS[cfg.SOLVER.AMP.PRECISION]
    )
