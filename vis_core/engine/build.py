"""Building the model that a config names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2 import modeling
from detectron2.config import CfgNode, get_cfg

from vis_core.config import leaves
from vis_core.errors import ConfigError

_UNKNOWN = re.compile(r"No object named '(.*)' found in '(.*)' registry")


@contextmanager
def config_errors(cfg: CfgNode) -> Iterator[None]:
    """Around the building of a model: raises ConfigError, with the key, for a part that no registry knows."""
    try:
        yield
    except KeyError as e:
        found = _UNKNOWN.search(str(e))
        if found is None:
            raise
        raise ConfigError(_unknown_part(cfg, *found.groups())) from e


def _unknown_part(cfg: CfgNode, name: str, registry: str) -> str:
    keys = [key for key, value in leaves(cfg.MODEL, "MODEL.").items() if value == name]
    message = f"{' or '.join(keys) or registry}: no '{name}' is known"
    if keys and leaves(get_cfg().MODEL, "MODEL.").get(keys[0]) == name:
        return f"{message}; it is Detectron2's default: does the config file lack its _BASE_?"
    registries = [value for key, value in vars(modeling).items() if key.endswith("_REGISTRY")]
    close = difflib.get_close_matches(name, [known for registry in registries for known, _ in registry], n=1)
    return message + (f" (did you mean '{close[0]}'?)" if close else "")
