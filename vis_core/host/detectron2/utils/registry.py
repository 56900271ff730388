"""Registries of classes and functions by name."""

import pydoc
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """The object with the dotted name ``name``, such as ``"torch.nn.Conv2d"``.

    Raises:
        ImportError: if there is none.
    """
    found = pydoc.locate(name)
    if found is None:
        raise ImportError(f"cannot locate the object {name}")
    return found
