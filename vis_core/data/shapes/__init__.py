"""ShapesVIS: a generated data set in YouTube-VIS format that needs no download."""

from .config import ShapesConfig
from .generate import generate_shapes, shapes_paths
from .outlines import CATEGORIES
from .register import SPLITS, register_shapes, register_shapesvis
from .render import render_frame
from .scene import Scene, make_scene

__all__ = [
    "CATEGORIES",
    "SPLITS",
    "Scene",
    "ShapesConfig",
    "generate_shapes",
    "make_scene",
    "register_shapes",
    "register_shapesvis",
    "render_frame",
    "shapes_paths",
]
