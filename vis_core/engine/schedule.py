"""Mistakes in ``SOLVER``'s schedule, which Detectron2 answers by an assertion or a division by zero, or not at all."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode

from vis_core.config import check_choice
from vis_core.errors import ConfigError

logger = logging.getLogger(__name__)

SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")


def check_schedule(cfg: CfgNode) -> None:
    """Raises ConfigError, which names the key, if no schedule can be built from ``cfg.SOLVER``."""
    solver = cfg.SOLVER
    for key in ("MAX_ITER", "CHECKPOINT_PERIOD"):
        if solver[key] < 1:
            raise ConfigError(f"SOLVER.{key}: {solver[key]}, but training needs at least 1")
    check_choice("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, SCHEDULES)
    check_choice("SOLVER.WARMUP_METHOD", solver.WARMUP_METHOD, ("linear", "constant"))
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        _check_steps(tuple(solver.STEPS), solver.MAX_ITER)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not 0 <= solver.BASE_LR_END <= solver.BASE_LR > 0:
        raise ConfigError(f"SOLVER.BASE_LR_END: {solver.BASE_LR_END} does not lie between 0 and SOLVER.BASE_LR")


def warn_of_long_warmup(cfg: CfgNode) -> None:
    """Warn if more than half of the iterations warm up: a shortened run may learn next to nothing, and not say so."""
    solver = cfg.SOLVER
    if solver.WARMUP_FACTOR < 1 and 2 * solver.WARMUP_ITERS > solver.MAX_ITER:
        logger.warning(
            "SOLVER.WARMUP_ITERS: %d of %d iterations (SOLVER.MAX_ITER) have a learning rate that begins at %g times "
            "SOLVER.BASE_LR; set WARMUP_ITERS lower for a short run",
            min(solver.WARMUP_ITERS, solver.MAX_ITER),
            solver.MAX_ITER,
            solver.WARMUP_FACTOR,
        )


def _check_steps(steps: tuple[int, ...], max_iter: int) -> None:
    if not all(isinstance(step, int) and step > 0 for step in steps):
        raise ConfigError(f"SOLVER.STEPS: {steps}: a step is an iteration, a whole number above 0")
    if sorted(set(steps)) != list(steps):
        raise ConfigError(f"SOLVER.STEPS: {steps}: every step has to be greater than the one before")
    if max_iter in steps:  # those beyond are left out, with a warning
        raise ConfigError(f"SOLVER.STEPS: {steps}: the training ends at {max_iter} (SOLVER.MAX_ITER); leave it out")
