"""From SOLVER.LR_SCHEDULER_NAME to a scheduler, DeepLab's included."""

import torch
from detectron2.solver import build_lr_scheduler as build_core_lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from .lr_scheduler import WarmupPolyLR


def build_lr_scheduler(cfg, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The scheduler that ``cfg.SOLVER.LR_SCHEDULER_NAME`` names: ``WarmupPolyLR``, or one of ``detectron2.solver``."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_core_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
