"""The methods. Importing this package registers every model, config key and checkpoint rule."""

import vis_core  # noqa: F401  makes detectron2 importable; must come first
from projects.defaults import add_all_configs, default_config

__all__ = ["add_all_configs", "default_config"]
