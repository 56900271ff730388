"""The methods. Importing this package registers every model, config key and checkpoint rule."""

import vis_core  # noqa: F401  makes detectron2 importable; must come first
from projects.defaults import add_all_configs, default_config
from projects.models import Model, find_model, known_models

__all__ = ["Model", "add_all_configs", "default_config", "find_model", "known_models"]
