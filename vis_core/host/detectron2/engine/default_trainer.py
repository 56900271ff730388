"""The trainer that builds everything from a config."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import hooks
from detectron2.engine.script_setup import create_ddp_model, default_writers
from detectron2.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

logger = logging.getLogger(__name__)


class DefaultTrainer(TrainerBase):
    """Model, optimizer, data, schedule, checkpoints and hooks of one config, in standard ways.

    Subclasses override the ``build_*`` methods. The step itself is done by ``_trainer``, which has no hooks of its
    own; hence the hooks registered here get no ``after_backward``.

    Attributes:
        cfg: the config, with auto-scaled numbers.
        scheduler: the learning-rate schedule.
        checkpointer: a :class:`DetectionCheckpointer` of the model and of this trainer.
    """

    def __init__(self, cfg):
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        step = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer: SimpleTrainer = step(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # a weak proxy: checkpointer and trainer would otherwise keep each other alive
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of OUTPUT_DIR with all states, or only the weights of MODEL.WEIGHTS.

        Args:
            resume: go on after the last checkpoint's iteration, if there is one. MODEL.WEIGHTS is ignored then.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # the saved iteration was finished
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Timing, schedule, exact batch norm, saving, evaluation, writing."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # of PreciseBN's loader; saves memory

        training_hooks = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            training_hooks.append(
                hooks.PreciseBN(
                    cfg.TEST.EVAL_PERIOD, self.model, self.build_train_loader(cfg), cfg.TEST.PRECISE_BN.NUM_ITER
                )
            )
        # Saved before the evaluation, which may fail; and with the exact statistics from above.
        if comm.is_main_process():
            training_hooks.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))

        def evaluate() -> Mapping[str, Any]:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        training_hooks.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate))
        # Last, so that an iteration's evaluation is written with it.
        if comm.is_main_process():
            training_hooks.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return training_hooks

    def build_writers(self) -> list[EventWriter]:
        """See :func:`default_writers`."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Mapping[str, Any] | None:
        """Train from ``start_iter`` to ``max_iter``.

        Returns:
            the results of the last evaluation, if TEST.EXPECTED_RESULTS asks to verify them; on the main process.
        """
        super().train(self.start_iter, self.max_iter)
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            if not hasattr(self, "_last_eval_results"):
                raise AssertionError("TEST.EXPECTED_RESULTS is set, but nothing was evaluated")
            verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results
        return None

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @property
    def model(self) -> nn.Module:
        return self._trainer.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._trainer.model = model

    @property
    def data_loader(self) -> Iterable:
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, data_loader: Iterable) -> None:
        self._trainer.data_loader = data_loader

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._trainer.optimizer = optimizer

    @classmethod
    def build_model(cls, cfg) -> nn.Module:
        """The model of MODEL.META_ARCHITECTURE on MODEL.DEVICE."""
        model = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer: torch.optim.Optimizer):
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg) -> Iterable:
        """An endless iterable of batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name: str) -> Iterable:
        """One pass over a data set, with a length."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name: str) -> DatasetEvaluator | None:
        """To be overridden, unless ``test`` is given its evaluators.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{cls.__name__} has no build_evaluator for '{dataset_name}'")

    @classmethod
    def test(
        cls, cfg, model: nn.Module, evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None
    ) -> Mapping[str, Any]:
        """Evaluate a model on every data set of DATASETS.TEST.

        Args:
            evaluators: one a data set; ``None``: from ``build_evaluator``, and a data set for which there is none
                is skipped with a warning.

        Returns:
            {data set: results}; of a single data set its results.

        Raises:
            AssertionError: another number of evaluators than of data sets.
        """
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(cfg.DATASETS.TEST):
            raise AssertionError(f"{len(evaluators)} evaluators for the {len(cfg.DATASETS.TEST)} of DATASETS.TEST")

        results: OrderedDict[str, Any] = OrderedDict()
        for index, name in enumerate(cfg.DATASETS.TEST):
            data_loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = cls.build_evaluator(cfg, name) if evaluators is None else evaluators[index]
            except NotImplementedError:
                logger.warning("No evaluator: pass evaluators to test, or override build_evaluator")
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, data_loader, evaluator)
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg, num_workers: int):
        """A config for ``num_workers`` processes from one made for SOLVER.REFERENCE_WORLD_SIZE.

        Batch and learning rate grow with the number of processes, all lengths in iterations shrink (linear scaling,
        Goyal et al., "Accurate, Large Minibatch SGD"). The config itself is returned if there is nothing to scale.

        Raises:
            AssertionError: the batch cannot be divided among the reference's processes.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        frozen = cfg.is_frozen()
        cfg = cfg.clone()
        cfg.defrost()
        solver = cfg.SOLVER
        if solver.IMS_PER_BATCH % reference != 0:
            raise AssertionError(f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is no multiple of {reference} workers")
        scale = num_workers / reference
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR = solver.BASE_LR * scale
        solver.MAX_ITER = round(solver.MAX_ITER / scale)
        solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / scale)
        cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logger.info(
            "Config for %d instead of %d workers: batch %d, learning rate %g, %d iterations, warm-up %d",
            num_workers,
            reference,
            solver.IMS_PER_BATCH,
            solver.BASE_LR,
            solver.MAX_ITER,
            solver.WARMUP_ITERS,
        )
        if frozen:
            cfg.freeze()
        return cfg
