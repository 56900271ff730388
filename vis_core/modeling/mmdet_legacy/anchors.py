"""Anchors rounded to whole pixels."""

from __future__ import annotations

from detectron2.modeling import ANCHOR_GENERATOR_REGISTRY
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator


@ANCHOR_GENERATOR_REGISTRY.register()
class LegacyAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's generator; anchors lie around the centre of a cell's pixels, with corners rounded (half to even).

    ``ANCHOR_GENERATOR.SIZES`` are multiples of the levels' strides in published models (8); OFFSET stays 0.
    """

    def __init__(self, *args, **kwargs) -> None:
        """As of DefaultAnchorGenerator."""
        super().__init__(*args, **kwargs)
        for stride, anchors in zip(self.strides, self.cell_anchors):
            centre = 0.5 * (stride - 1)
            reach = 0.5 * (anchors[:, 2:] - anchors[:, :2] - 1)  # (A, 2), from the centre to the last pixel
            anchors[:, :2] = (centre - reach).round()
            anchors[:, 2:] = (centre + reach).round() + 1
