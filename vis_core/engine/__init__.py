"""Training, evaluation and prediction from a config."""

from vis_core.engine.launch import launch
from vis_core.engine.predictor import VideoPredictor
from vis_core.engine.trainer import VideoTrainer

__all__ = ["VideoPredictor", "VideoTrainer", "launch"]
