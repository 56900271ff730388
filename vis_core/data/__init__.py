"""Data sets, clips, videos: everything that a model is fed with."""

from .builtin import register_builtin
from .catalog import register_coco_video, register_davis, register_ytvis
from .coco_video import load_coco_json
from .custom import register_custom
from .frame_source import FrameSource, open_video
from .loader import ClipLoader, build_test_loader, build_train_loader
from .mapper import PseudoClipMapper, TestMapper, VideoClipMapper
from .metadata import dataset_metadata
from .network_frames import NetworkFrames
from .records import load_ytvis_json
from .sampling import ClipSampling
from .shapes import register_shapes, register_shapesvis

__all__ = [
    "ClipLoader",
    "ClipSampling",
    "FrameSource",
    "NetworkFrames",
    "PseudoClipMapper",
    "TestMapper",
    "VideoClipMapper",
    "build_test_loader",
    "build_train_loader",
    "dataset_metadata",
    "load_coco_json",
    "load_ytvis_json",
    "open_video",
    "register_builtin",
    "register_coco_video",
    "register_custom",
    "register_davis",
    "register_shapes",
    "register_shapesvis",
    "register_ytvis",
]

register_builtin()
register_shapesvis()
