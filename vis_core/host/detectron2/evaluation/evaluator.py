"""The evaluation loop."""

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds
from torch import nn

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset"]

# iterations that are left out of the timing, since caches and memory pools are still being filled
WARMUP_ITERATIONS = 5


class DatasetEvaluator:
    """Collects a model's outputs over a dataset and turns them into metrics."""

    def reset(self) -> None:
        """Forget what was collected; called before each pass."""

    def process(self, inputs: list[dict], outputs: list) -> None:
        """Take in one batch: the model's inputs and, for each of them, its output."""

    def evaluate(self) -> dict | None:
        """Results as {task: {metric: float}}; None or an empty dict on processes that have none."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; their results are merged and must not share a key (AssertionError)."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]):
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: list) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict:
        merged: dict = {}
        for evaluator in self._evaluators:
            results = evaluator.evaluate()
            if results is None or not is_main_process():
                continue
            shared = merged.keys() & results.keys()
            assert not shared, f"two evaluators give results under {sorted(shared)}"
            merged.update(results)
        return merged


class _Stopwatch:
    """Seconds spent on parts of the iterations since the warm-up."""

    def __init__(self, num_warmup: int):
        self.num_warmup = num_warmup
        self.iterations = 0
        self._restart()

    def _restart(self) -> None:
        self.begin = time.perf_counter()
        self.seconds = {"data": 0.0, "inference": 0.0, "eval": 0.0}
        self.counted = 0

    def add(self, **seconds: float) -> None:
        """Account for one iteration."""
        self.iterations += 1
        self.counted += 1
        for part, value in seconds.items():
            self.seconds[part] += value
        if self.iterations == self.num_warmup:
            self._restart()

    def per_iteration(self) -> dict[str, float]:
        """Mean seconds of each part, and ``total``, which includes what lies between the parts."""
        n = max(self.counted, 1)
        return {**{k: v / n for k, v in self.seconds.items()}, "total": (time.perf_counter() - self.begin) / n}


def _timed(batches: Iterable) -> Iterator[tuple[float, object]]:
    """Each batch with the seconds that it took to get it."""
    begin = time.perf_counter()
    for batch in batches:
        yield time.perf_counter() - begin, batch
        begin = time.perf_counter()


def inference_on_dataset(
    model: Callable,
    data_loader: Iterable,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: dict[str, Callable[[], object]] | None = None,
) -> dict:
    """Run ``model`` on every batch, without gradients, and evaluate.

    Args:
        model: a module, which is in eval mode meanwhile and gets its mode back, or any callable.
        data_loader: iterable of batches with a length.
        evaluator: one, a list, or None to only run the model.
        callbacks: functions called at "on_start", "before_inference", "after_inference" and "on_end".

    Returns:
        What the evaluator gives, {} for None.
    """
    logger = logging.getLogger(__name__)
    total = len(data_loader)
    logger.info("Inference on %d batches", total)
    if evaluator is None:
        evaluator = DatasetEvaluators([])
    elif isinstance(evaluator, list | tuple):
        evaluator = DatasetEvaluators(evaluator)

    def call_back(event: str) -> None:
        (callbacks or {}).get(event, lambda: None)()

    evaluator.reset()
    watch = _Stopwatch(min(WARMUP_ITERATIONS, total - 1))
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        call_back("on_start")
        for index, (data_seconds, inputs) in enumerate(_timed(data_loader)):
            call_back("before_inference")
            begin = time.perf_counter()
            outputs = model(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            inferred = time.perf_counter()
            call_back("after_inference")
            processing = time.perf_counter()
            evaluator.process(inputs, outputs)
            watch.add(data=data_seconds, inference=inferred - begin, eval=time.perf_counter() - processing)
            mean = watch.per_iteration()
            if watch.iterations > watch.num_warmup:
                log_every_n_seconds(
                    logging.INFO,
                    f"Inference done {index + 1}/{total}. Data: {mean['data']:.4f} s/iter. "
                    f"Inference: {mean['inference']:.4f} s/iter. Eval: {mean['eval']:.4f} s/iter. "
                    f"Total: {mean['total']:.4f} s/iter. "
                    f"ETA={datetime.timedelta(seconds=int(mean['total'] * (total - index - 1)))}",
                    n=5,
                )
        call_back("on_end")

    mean = watch.per_iteration()
    logger.info(
        "Inference took %.4f s / iter of this process, of it the model %.4f; %d processes",
        mean["total"],
        mean["inference"],
        get_world_size(),
    )
    results = evaluator.evaluate()
    return {} if results is None else results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """The model is in eval mode inside, and as before afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
