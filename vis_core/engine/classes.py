"""Do a model's classes suffice for what it is trained with?"""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn

from vis_core.data import dataset_metadata
from vis_core.errors import ConfigError


def check_num_classes(cfg: CfgNode, model: nn.Module) -> None:
    """Raises ConfigError if a data set of ``DATASETS.TRAIN`` has more classes than ``model``, which is made of ``cfg``.

    Class numbers that are too large would fail deep inside the model at best, and count as background at worst.
    """
    key = num_classes_key(cfg, model)
    if key is None:
        return
    known = cfg
    for name in key.split("."):
        known = known[name]
    for dataset in cfg.DATASETS.TRAIN:
        count = len(dataset_metadata(dataset).thing_classes)
        if count > known:
            raise ConfigError(f"{key}: {known}, but the data set '{dataset}' has {count} classes; set it to {count}")


def num_classes_key(cfg: CfgNode, model: nn.Module) -> str | None:
    """The config key of the model's number of classes: its method's own, or that of its head; None if unknown."""
    method = cfg.MODEL.META_ARCHITECTURE
    if "NUM_CLASSES" in cfg.MODEL.get(method, {}):
        return f"MODEL.{method}.NUM_CLASSES"
    heads = {"roi_heads": "MODEL.ROI_HEADS.NUM_CLASSES", "sem_seg_head": "MODEL.SEM_SEG_HEAD.NUM_CLASSES"}
    return next((key for head, key in heads.items() if hasattr(model, head)), None)
