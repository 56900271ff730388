"""Registry of heads that predict from feature maps as a whole."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = "Callables ``(cfg, input_shape: {name: ShapeSpec}) -> module``."


def build_sem_seg_head(cfg, input_shape: dict[str, ShapeSpec]):
    """Build the head that ``cfg.MODEL.SEM_SEG_HEAD.NAME`` names."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)
