"""Recognises weights files of other code bases by their keys and renames them to ours.

A method registers its rules once, on import: ``register_converter("mmtracking MaskTrack R-CNN", matches, convert)``.
The rules are pure functions on ``{key: tensor}`` dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Converter:
    """One family of foreign files.

    Attributes:
        name: what the file is, for the log ("mmtracking MaskTrack R-CNN").
        matches: given the file's keys, whether this is such a file. At most one converter may say yes.
        convert: renames (and where the original's layout differs, rearranges) all tensors.
    """

    name: str
    matches: Callable[[Collection[str]], bool]
    convert: Callable[[StateDict], StateDict]


_CONVERTERS: dict[str, Converter] = {}


def register_converter(
    name: str, matches: Callable[[Collection[str]], bool], convert: Callable[[StateDict], StateDict]
) -> None:
    """Make a family of foreign files loadable. Raises ValueError if the name is taken."""
    if name in _CONVERTERS:
        raise ValueError(f"a checkpoint converter named '{name}' is registered already")
    _CONVERTERS[name] = Converter(name, matches, convert)


def find_converter(keys: Collection[str]) -> Converter | None:
    """The converter that recognises these keys, or None for a file in our own naming.

    Raises ValueError if several do: their rules overlap, which is a bug.
    """
    found = [c for c in _CONVERTERS.values() if c.matches(keys)]
    if len(found) > 1:
        raise ValueError(f"ambiguous checkpoint: recognised as {', '.join(c.name for c in found)}")
    return found[0] if found else None
