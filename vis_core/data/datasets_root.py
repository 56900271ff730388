"""Where data sets lie that are registered by name."""

from __future__ import annotations

import os
from pathlib import Path


def datasets_root() -> Path:
    """``$DETECTRON2_DATASETS``, "~" expanded; without it ``datasets`` below the current folder."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
