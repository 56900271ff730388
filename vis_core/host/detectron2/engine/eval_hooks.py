"""Hooks that evaluate the model while it trains, and keep the best."""

import logging
import math
import operator
from collections.abc import Callable, Mapping

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer

logger = logging.getLogger(__name__)


def _is_due(done: int, period: int, max_iter: int) -> bool:
    """Whether something periodic happens after ``done`` iterations; the last iteration is left to after_train."""
    return period > 0 and done % period == 0 and done != max_iter


class EvalHook(HookBase):
    """Evaluates every ``eval_period`` iterations and after the training, and records the results as scalars.

    All processes run the function and wait for each other.

    Args:
        eval_period: in iterations; 0: only after the training.
        eval_function: gives a (nested) dict of numbers, or nothing.
        eval_after_train: whether to evaluate after a training that was finished.

    Raises:
        ValueError: a result that is no number.
    """

    def __init__(self, eval_period: int, eval_function: Callable[[], Mapping | None], eval_after_train: bool = True):
        self._period = eval_period
        self._function = eval_function
        self._after_train = eval_after_train

    def after_step(self):
        if _is_due(self.trainer.iter + 1, self._period, self.trainer.max_iter):
            self._evaluate()

    def after_train(self):
        if self._after_train and self.trainer.iter >= self.trainer.max_iter:
            self._evaluate()
        # it usually holds the trainer, which holds this hook
        self._function = None

    def _evaluate(self) -> None:
        results = self._function()
        if results:
            if not isinstance(results, Mapping):
                raise AssertionError(f"the evaluation must give a dict, got {type(results).__name__}")
            scalars = {}
            for name, value in flatten_results_dict(results).items():
                try:
                    scalars[name] = float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"evaluation result '{name}' is no number: {value!r}") from error
            self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        # an evaluation takes some processes longer than others; wait here and not in the next gradient exchange
        comm.synchronize()


class BestCheckpointer(HookBase):
    """Saves the model whenever a metric is better than ever before. Must stand after the :class:`EvalHook`.

    Args:
        eval_period: the EvalHook's.
        checkpointer: saves ``<file_prefix>.pth``.
        val_metric: name of the scalar, ``"segm/AP50"`` say; NaN and infinity are passed over.
        mode: ``"max"`` or ``"min"``.
        file_prefix: file name without ``.pth``.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ):
        if mode not in ("max", "min"):
            raise AssertionError(f"mode must be 'max' or 'min', got '{mode}'")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = val_metric
        self._is_better = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def after_step(self):
        if _is_due(self.trainer.iter + 1, self._period, self.trainer.max_iter):
            self._save_if_best()

    def after_train(self):
        if self.trainer.iter >= self.trainer.max_iter:
            self._save_if_best()

    def _save_if_best(self) -> None:
        recorded = self.trainer.storage.latest().get(self._metric)
        if recorded is None:
            logger.warning("No value of '%s' is recorded: the best checkpoint is not updated", self._metric)
            return
        value, iteration = recorded
        if not math.isfinite(value):
            return
        if self.best_metric is None or self._is_better(value, self.best_metric):
            logger.info("Best %s so far: %.5f after iteration %d", self._metric, value, iteration)
            self.best_metric, self.best_iter = value, iteration
            self._checkpointer.save(self._file_prefix, iteration=iteration)
