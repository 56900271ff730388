"""Chooses who provides ``detectron2``.

The official package always wins. Where it is absent, the folder of this module, which holds our own
``detectron2`` subset, is appended at the END of ``sys.path``. Nothing in this folder imports ``vis_core``.
"""

import importlib.util
import sys
from pathlib import Path

HOST_ROOT = Path(__file__).resolve().parent


def ensure_detectron2() -> str:
    """Make ``import detectron2`` work; returns :func:`provider`. Safe to call any number of times."""
    spec = importlib.util.find_spec("detectron2")
    # A folder of that name without a package in it (a clone that was not installed) is found, but has no origin.
    if spec is None or spec.origin is None:
        sys.path.append(str(HOST_ROOT))
        importlib.invalidate_caches()
    return provider()


def provider() -> str:
    """``"bundled"`` when ``detectron2`` is the subset in this folder, ``"official"`` otherwise."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        raise ImportError("detectron2 cannot be imported: call vis_core.host.ensure_detectron2() first")
    return "bundled" if Path(spec.origin).resolve().is_relative_to(HOST_ROOT) else "official"
