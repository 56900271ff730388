"""Weights: recognised by their keys, read without executing anything, written whole or not at all."""

from vis_core.checkpoint.checkpointer import VideoCheckpointer
from vis_core.checkpoint.converters import Converter, find_converter, register_converter
from vis_core.checkpoint.files import read_checkpoint, weights_of, write_checkpoint
from vis_core.checkpoint.mmdet_names import background_last, rename_mask_rcnn

__all__ = [
    "Converter",
    "VideoCheckpointer",
    "background_last",
    "find_converter",
    "read_checkpoint",
    "register_converter",
    "rename_mask_rcnn",
    "weights_of",
    "write_checkpoint",
]
