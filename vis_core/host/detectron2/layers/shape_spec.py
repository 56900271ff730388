from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """What is known about the shape of a feature map before there is one; None where unknown."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
    """pixels of the input image per step in the map"""
