"""The standard ways to train, to predict and to set up a script."""

from detectron2.engine.default_predictor import DefaultPredictor
from detectron2.engine.default_trainer import DefaultTrainer
from detectron2.engine.script_setup import (
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
)

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]
