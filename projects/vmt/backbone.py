"""The backbone's maps as VMT takes them: with the stem's convolution at stride 2, before its norm and ReLU."""

from __future__ import annotations

import torch
from detectron2.modeling import Backbone, ResNet
from torch import nn
from torch.nn import functional as F

from vis_core.errors import ConfigError

STAGES = ("res2", "res3", "res4", "res5")


class FrameBackbone(nn.Module):
    """A ResNet (of Detectron2's kind), or any backbone with res2 to res5, which then has no stem's map.

    Attributes:
        channels: of res2 to res5.
        stem_dim: of the stem's convolution, or None.
    """

    def __init__(self, body: Backbone) -> None:
        """Raises ConfigError if the backbone lacks one of res2 to res5."""
        super().__init__()
        shapes = body.output_shape()
        missing = [name for name in STAGES if name not in shapes]
        if missing:
            raise ConfigError(f"MODEL.META_ARCHITECTURE VMT: the backbone puts out no {', '.join(missing)}")
        self.body = body
        self.channels = [shapes[name].channels for name in STAGES]
        self.stem_dim = body.stem.conv1.out_channels if isinstance(body, ResNet) else None

    def forward(self, images: torch.Tensor) -> list[torch.Tensor | None]:
        """Images (N, 3, H, W) to res2 to res5 (N, channels, h, w), and the stem's map (N, stem_dim, h2, w2) or None."""
        if self.stem_dim is None:
            maps = self.body(images)
            return [*(maps[name] for name in STAGES), None]
        raw = self.stem_map(images)
        x = F.max_pool2d(F.relu(self.body.stem.conv1.norm(raw)), kernel_size=3, stride=2, padding=1)
        maps = []
        for name in self.body.stage_names:
            x = getattr(self.body, name)(x)
            maps.append(x)
        return [*maps, raw]

    def stem_map(self, images: torch.Tensor) -> torch.Tensor:
        """What the stem's convolution alone makes of images (N, 3, H, W): (N, stem_dim, h2, w2)."""
        conv = self.body.stem.conv1
        return F.conv2d(images, conv.weight, conv.bias, conv.stride, conv.padding)
