"""Config keys of the modules in this folder."""

from detectron2.config import CfgNode


def add_mmdet_config(cfg: CfgNode) -> None:
    """Add the keys, in place; more than one method may do so."""
    # Boxes with a side under twice this (pixels) are pooled from the finest level of the pyramid, and so on upwards.
    cfg.MODEL.ROI_HEADS.FINEST_SCALE = 56.0
