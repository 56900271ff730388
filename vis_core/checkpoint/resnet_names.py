"""torchvision's names of a ResNet's parts, which mmdetection and DETR share, in terms of Detectron2's."""

from __future__ import annotations

from vis_core.checkpoint.renaming import rename, rules

# layer1 is res2.
RESNET_ROWS = (
    (r"conv1\.", r"stem.conv1.", 0),
    (r"bn1\.", r"stem.conv1.norm.", 0),
    (r"layer(\d)\.(\d+)\.conv(\d)\.", r"res{}.\2.conv\3.", 1),
    (r"layer(\d)\.(\d+)\.bn(\d)\.", r"res{}.\2.conv\3.norm.", 1),
    (r"layer(\d)\.(\d+)\.downsample\.0\.", r"res{}.\2.shortcut.", 1),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", r"res{}.\2.shortcut.norm.", 1),
)
_RULES = rules(RESNET_ROWS)


def rename_resnet(name: str) -> str:
    """Detectron2's name, without prefix, for one of torchvision's; a name that no rule fits stays as it is."""
    return rename(name, _RULES)
