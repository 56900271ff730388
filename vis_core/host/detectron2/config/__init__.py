from .config import CfgNode, get_cfg, global_cfg, set_global_cfg
from .configurable import configurable

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]
