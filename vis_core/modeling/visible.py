"""Which objects of a clip a frame shows."""

from __future__ import annotations

from detectron2.structures import Instances


def visible(instances: Instances) -> Instances:
    """The objects (N,) of a clip's track list that can be seen in this frame: ``gt_ids`` is -1 for the others."""
    return instances[instances.gt_ids >= 0]
