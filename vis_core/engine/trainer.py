"""The trainer of all methods: Detectron2's DefaultTrainer with video data, exact resume and any device."""

from __future__ import annotations

import inspect
import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vis_core.checkpoint import VideoCheckpointer
from vis_core.data import build_test_loader, build_train_loader
from vis_core.engine.build import config_errors
from vis_core.engine.classes import check_num_classes
from vis_core.engine.hooks import IterationSeed
from vis_core.engine.optimizer import build_optimizer
from vis_core.engine.schedule import check_schedule, warn_of_long_warmup
from vis_core.engine.train_loop import build_train_loop
from vis_core.errors import ConfigError, VisError
from vis_core.evaluation import DavisEvaluator, YTVISEvaluator


class VideoTrainer(DefaultTrainer):
    """Trains and evaluates a video model from a config.

    A run that is killed and resumed computes what the uninterrupted run would have: the checkpoint holds model,
    optimizer, schedule, loss scaler, iteration and seed; data order, augmentation and sampling inside the model
    depend on seed and iteration only.
    """

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer's own constructor is skipped: it cannot wrap a CPU model for several processes, knows AMP
        # on CUDA only, and loads the training data before it is known where to start.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()

        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        model = wrap_distributed(model)
        # The data loader is built in train(), when the iteration to start from is known.
        self._trainer = build_train_loop(cfg, model, None, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = VideoCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def train(self):
        """Train from ``start_iter`` to ``SOLVER.MAX_ITER``, evaluating and saving on the way.

        Raises ConfigError for a data set or a number of classes that does not fit, and when the loss is no longer
        finite; what was saved until then stays.
        """
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.SEED = self.seed
        self._trainer.data_loader = self.build_train_loader(cfg, start_iter=self.start_iter)
        self.check_test_sets(cfg)
        model = self._trainer.model
        check_num_classes(cfg, model.module if isinstance(model, DistributedDataParallel) else model)
        warn_of_long_warmup(cfg)
        with without_tracebacks():
            return super().train()

    def run_step(self) -> None:
        try:
            super().run_step()
        except FloatingPointError as e:
            amp = ", or SOLVER.AMP.PRECISION bfloat16" if self.cfg.SOLVER.AMP.ENABLED else ""
            raise ConfigError(
                f"SOLVER.BASE_LR: the training diverged at iteration {self.iter} (infinite or NaN values); try less "
                f"than {self.cfg.SOLVER.BASE_LR:g}, or a longer SOLVER.WARMUP_ITERS{amp}"
            ) from e

    def check_test_sets(self, cfg: CfgNode) -> None:
        """Raise what is wrong with ``DATASETS.TEST`` (a name, its files) now rather than after the training."""
        for name in cfg.DATASETS.TEST:
            # The loader reads the annotations, which for some data sets finds or makes the evaluator's file.
            self.build_test_loader(cfg, name)
            self.build_evaluator(cfg, name)

    def build_hooks(self) -> list:
        return [IterationSeed(lambda: self.seed, comm.get_rank()), *super().build_hooks()]

    def state_dict(self) -> dict:
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict["seed"]

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of ``MODEL.META_ARCHITECTURE``. Raises ConfigError if it, or a part of it, is not known."""
        with config_errors(cfg):
            return super().build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer):
        """Detectron2's schedule. Raises ConfigError for one that cannot be."""
        check_schedule(cfg)
        return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0):
        return build_train_loader(cfg, start_iter=start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None):
        """Evaluator by the data set's metadata field ``evaluator_type``: "ytvis", "davis_uvos" or "coco".

        Raises ConfigError for any other type.
        """
        output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
        if evaluator_type == "ytvis":
            return YTVISEvaluator(dataset_name, output_dir=output_folder, submission=cfg.TEST.WRITE_SUBMISSION)
        if evaluator_type == "davis_uvos":
            return DavisEvaluator(dataset_name, output_dir=output_folder)
        if evaluator_type == "coco":
            return COCOEvaluator(dataset_name, output_dir=output_folder)
        raise ConfigError(f"DATASETS.TEST: no evaluator for '{dataset_name}' (its evaluator_type is {evaluator_type})")


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Detectron2's training loop logs the traceback of an error, also of one that the caller says in one line."""

    def is_a_defect(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], VisError))

    logger = logging.getLogger("detectron2.engine.train_loop")
    logger.addFilter(is_a_defect)
    try:
        yield
    finally:
        logger.removeFilter(is_a_defect)


def wrap_distributed(model: nn.Module) -> nn.Module:
    """DistributedDataParallel over all processes, on CPU or CUDA; the model itself in a job of one process."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    # Every process sees its own batch statistics; newer versions of PyTorch renamed the switch.
    known = inspect.signature(DistributedDataParallel).parameters
    switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(model, device_ids=None if device.type == "cpu" else [device], **{switch: False})
