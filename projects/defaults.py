"""The config that every config file is merged into."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg

from projects.ctvis import add_ctvis_config
from projects.masktrack_rcnn import add_masktrack_rcnn_config
from projects.seq_mask_rcnn import add_seq_mask_rcnn_config
from projects.vmt import add_vmt_config
from vis_core.config import add_vis_config
from vis_core.modeling import add_mask2former_config

METHODS = (add_masktrack_rcnn_config, add_ctvis_config, add_seq_mask_rcnn_config, add_vmt_config)


def add_all_configs(cfg: CfgNode) -> None:
    """Add the shared keys and every method's keys to Detectron2's defaults, in place."""
    add_vis_config(cfg)
    add_mask2former_config(cfg)
    for add_config in METHODS:
        add_config(cfg)


def default_config() -> CfgNode:
    """A fresh config with Detectron2's, the shared and every method's keys."""
    cfg = get_cfg()
    add_all_configs(cfg)
    return cfg
