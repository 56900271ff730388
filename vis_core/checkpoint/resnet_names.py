"""torchvision's names of a ResNet's parts, which mmdetection and DETR share, in terms of Detectron2's."""

from __future__ import annotations

import re

# (pattern, replacement), tried in order; the first that fits is used. {} is the stage: layer1 is res2.
_RULES = (
    (r"conv1\.", r"stem.conv1."),
    (r"bn1\.", r"stem.conv1.norm."),
    (r"layer(\d)\.(\d+)\.conv(\d)\.", r"res{}.\2.conv\3."),
    (r"layer(\d)\.(\d+)\.bn(\d)\.", r"res{}.\2.conv\3.norm."),
    (r"layer(\d)\.(\d+)\.downsample\.0\.", r"res{}.\2.shortcut."),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", r"res{}.\2.shortcut.norm."),
)
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def rename_resnet(name: str) -> str:
    """Detectron2's name, without prefix, for one of torchvision's; a name that no rule fits stays as it is."""
    for pattern, replacement in _COMPILED:
        found = pattern.match(name)
        if found:
            stage = int(found[1]) + 1 if found.re.groups else 0
            return found.expand(replacement.format(stage)) + name[found.end() :]
    return name
