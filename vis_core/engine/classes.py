"""Are a model's classes those of the data that it is trained, evaluated and used with?"""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from vis_core.data import dataset_metadata
from vis_core.errors import ConfigError

logger = logging.getLogger(__name__)


def check_num_classes(cfg: CfgNode, model: nn.Module) -> None:
    """Raises ConfigError if ``model``, which is made of ``cfg``, has another number of classes than its data sets.

    Class numbers that are too large would fail deep inside the model at best, and count as background at worst; a
    model with too many predicts classes that the evaluation after the training does not know. Only warned of: data
    sets with fewer classes trained beside one that has all, and classes of a test set that cannot be found.
    """
    key = num_classes_key(cfg, model)
    if key is None:
        return
    known = num_classes(cfg, key)
    counts = {name: len(dataset_metadata(name).thing_classes) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)}
    has_all = any(counts[name] == known for name in cfg.DATASETS.TRAIN)
    for name, count in counts.items():
        trained = name in cfg.DATASETS.TRAIN
        # Other evaluators than this one take any class.
        strict = trained or MetadataCatalog.get(name).get("evaluator_type") == "ytvis"
        message = f"{key}: {known}, but the data set '{name}' has {count} classes"
        if (trained and count > known) or (strict and count < known and not (trained and has_all)):
            raise ConfigError(f"{message}; set it to {count}")
        if count != known:
            logger.warning("%s", message)


def warn_of_unnamed_classes(cfg: CfgNode, model: nn.Module, class_names: list[str]) -> None:
    """Warn if ``model``, which is made of ``cfg``, can predict classes beyond ``class_names``; none given are fine."""
    key = num_classes_key(cfg, model)
    if key is not None and class_names and num_classes(cfg, key) > len(class_names):
        logger.warning(
            "%s: %d, but only %d classes have names (data set of DATASETS.TEST): results may have categories without",
            key,
            num_classes(cfg, key),
            len(class_names),
        )


def num_classes(cfg: CfgNode, key: str) -> int:
    """The value of :func:`num_classes_key`'s ``key``."""
    value = cfg
    for name in key.split("."):
        value = value[name]
    return value


def num_classes_key(cfg: CfgNode, model: nn.Module) -> str | None:
    """The config key of the model's number of classes: its method's own, or that of its head; None if unknown."""
    method = cfg.MODEL.META_ARCHITECTURE
    if "NUM_CLASSES" in cfg.MODEL.get(method, {}):
        return f"MODEL.{method}.NUM_CLASSES"
    heads = {"roi_heads": "MODEL.ROI_HEADS.NUM_CLASSES", "sem_seg_head": "MODEL.SEM_SEG_HEAD.NUM_CLASSES"}
    return next((key for head, key in heads.items() if hasattr(model, head)), None)
