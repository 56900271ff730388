"""What the mask stages read, whatever the instances are: maps of stride 8, 4 and 2.

The parts keep the names of the release.

Shapes: N frames, (H, W) the image, (h8, w8), (h4, w4), (h2, w2) maps of stride 8, 4, 2; sides are rounded up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from projects.vmt.dynamic import resize_nearest


class MaskMaps(NamedTuple):
    """Maps of N frames.

    Attributes:
        coarse: (N, 8, h8, w8), for the first stage.
        second: (N, 8, h4, w4), for the second stage.
        base: (N, 64, h4, w4), which the last stage's map begins with, enlarged to stride 2.
    """

    coarse: torch.Tensor
    second: torch.Tensor
    base: torch.Tensor

    def frames(self, part: slice) -> MaskMaps:
        """Those of some frames."""
        return MaskMaps(*(x[part] for x in self))


class MaskDecoder(nn.Module):
    """From the encoder's maps of stride 32, 16 and 8 to one of stride 8. ``dcn`` is an ordinary convolution."""

    def __init__(self, dim: int, dim_hidden: int, dim_out: int) -> None:
        super().__init__()
        self.lay3 = nn.Conv2d(dim, dim, 3, padding=1)
        self.lay4 = nn.Conv2d(dim, dim, 3, padding=1)
        self.dcn = nn.Conv2d(dim, dim, 3, padding=1)
        self.lay1 = nn.Conv2d(dim, dim_hidden, 3, padding=1)
        self.lay2 = nn.Conv2d(dim_hidden, dim_out, 3, padding=1)
        for conv in self.children():
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, x8: torch.Tensor, x16: torch.Tensor, x32: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps (N, dim, h, w) to (N, dim_out, h8, w8), and to the fused map (N, dim, h8, w8)."""
        x = F.relu_(self.lay3(x32))
        x = F.relu_(self.lay4(x16 + resize_nearest(x, x16.shape[-2:])))
        fused = x8 + resize_nearest(x, x8.shape[-2:])
        return F.relu_(self.lay2(F.relu_(self.lay1(F.relu_(self.dcn(fused)))))), fused


class MaskFeatures(nn.Module):
    """Maps for all three stages from the encoder's maps, the backbone's at stride 4, its stem's, and the image."""

    def __init__(
        self, *, dim: int, stride4_dim: int, stem_dim: int | None, mask_dim: int = 8, refine_dim: int = 64
    ) -> None:
        """
        Args:
            dim: channels of the encoder's maps.
            stride4_dim: of the backbone's finest map.
            stem_dim: of the stem's convolution at stride 2; None if there is none, and the map of stride 4 stands in.
            mask_dim: of the maps for the first two stages.
            refine_dim: of the map for the last stage.
        """
        super().__init__()
        self.has_stem = stem_dim is not None
        self.mask_head = MaskDecoder(dim, dim // 4, mask_dim)
        self.lay_hr1 = nn.Conv2d(dim, stride4_dim, 3, padding=1)
        self.lay1_h = nn.Conv2d(stride4_dim, refine_dim, 3, padding=1)
        self.lay2_h = nn.Conv2d(refine_dim, mask_dim, 3, padding=1)
        self.lay_hr1_c = nn.Conv2d(refine_dim, refine_dim, 1)
        self.conv_norm_relus_fuse_img = nn.Sequential(
            nn.Conv2d(3, refine_dim // 2, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(refine_dim // 2, refine_dim, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(refine_dim, refine_dim, 1),
            nn.ReLU(inplace=True),
        )
        in_channels = stem_dim or stride4_dim
        self.lay_compress = nn.Conv2d(in_channels, refine_dim, 1) if in_channels != refine_dim else None

    def forward(self, x8: torch.Tensor, x16: torch.Tensor, x32: torch.Tensor, stride4: torch.Tensor) -> MaskMaps:
        """The encoder's maps (N, dim, h, w) and the backbone's (N, stride4_dim, h4, w4) to what stages read."""
        coarse, fused = self.mask_head(x8, x16, x32)
        x = stride4 + resize_nearest(F.relu_(self.lay_hr1(fused)), stride4.shape[-2:])
        x = F.relu_(self.lay1_h(x))  # (N, refine_dim, h4, w4)
        return MaskMaps(coarse, F.relu_(self.lay2_h(x)), F.relu_(self.lay_hr1_c(x)))

    def compress(self, stem: torch.Tensor) -> torch.Tensor:
        """The stem's map, or what stands in for it, with ``refine_dim`` channels; its size stays."""
        return stem if self.lay_compress is None else self.lay_compress(stem)

    def detail(self, images: torch.Tensor, stem: torch.Tensor) -> torch.Tensor:
        """What pixels near a contour get on top of the base map.

        Args:
            images: (N, 3, H, W), normalised.
            stem: (N, refine_dim, h2, w2) as :meth:`compress` left it; or, without a stem, at stride 4.

        Returns:
            (N, refine_dim, h2, w2).
        """
        if not self.has_stem:
            stem = resize_nearest(stem, tuple(2 * side for side in stem.shape[-2:]))
        return stem + self.conv_norm_relus_fuse_img(resize_nearest(images, stem.shape[-2:]))
