"""Weights: recognised by their keys, read without executing anything, written whole or not at all."""

from vis_core.checkpoint.checkpointer import VideoCheckpointer
from vis_core.checkpoint.converters import Converter, find_converter, register_converter
from vis_core.checkpoint.files import read_checkpoint, weights_of, write_checkpoint
from vis_core.checkpoint.mmdet_names import background_last, rename_mask_rcnn
from vis_core.checkpoint.resnet_names import rename_resnet

__all__ = [
    "Converter",
    "VideoCheckpointer",
    "background_last",
    "find_converter",
    "read_checkpoint",
    "register_converter",
    "rename_mask_rcnn",
    "rename_resnet",
    "weights_of",
    "write_checkpoint",
]
