"""Saving and loading of models, and the names of the published weights."""

from detectron2.checkpoint import catalog as _catalog  # registers catalog:// with the PathManager  # noqa: F401
from detectron2.checkpoint.detection_checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]
