"""Swin Transformer as a backbone (Liu et al., ICCV 2021, arXiv 2103.14030).

A module of our own, since the published segmentation weights name and order their parts differently from timm's.

Shapes: B images, (H, W) a stage's map, C its channels, w side of a window, W windows of an image, M heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

BLOCKED = -100.0  # added to the attention between pixels that the cyclic shift brought together


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for every relative position."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, W, w * w, C) to the same; ``mask`` (W, w * w, w * w) is added to the attention logits."""
        num_images, num_windows, num_pixels, dim = windows.shape
        qkv = self.qkv(windows).view(num_images, num_windows, num_pixels, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, W, M, w * w, C / M)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (M, w * w, w * w)
        if mask is None:
            q, k, v, bias = *(x.flatten(0, 1) for x in (q, k, v)), bias[None]
        else:  # every window has a bias of its own: windows become heads
            q, k, v = (x.flatten(1, 2) for x in (q, k, v))
            bias = (bias + mask[:, None]).flatten(0, 1)[None]  # (1, W * M, w * w, w * w)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out = out.reshape(num_images, num_windows, self.num_heads, num_pixels, -1)
        return self.proj(out.transpose(2, 3).reshape(num_images, num_windows, num_pixels, dim))


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, dim_hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim_hidden)
        self.fc2 = nn.Linear(dim_hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Window attention and a feed-forward network, each behind a layer norm and beside a residual."""

    def __init__(self, dim: int, num_heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same; ``mask`` as of :func:`shift_mask`, for shifted blocks."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        num_images, height, width, dim = x.shape
        w = self.window
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = x.view(num_images, rows, w, columns, w, dim).transpose(2, 3).reshape(num_images, -1, w * w, dim)
        windows = self.attn(windows, mask if self.shift else None)
        x = windows.view(num_images, rows, columns, w, w, dim).transpose(2, 3).reshape(x.shape)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """2 x 2 pixels of C channels become one of 2 C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        phases = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(phases, dim=-1)))


class SwinStage(nn.Module):
    """Blocks at one resolution, every other with shifted windows; then half the resolution, unless it is the last."""

    def __init__(
        self, dim: int, num_heads: int, window: int, drop_paths: Sequence[float], downsample: bool, use_checkpoint: bool
    ) -> None:
        super().__init__()
        self.window = window
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window, shift=window // 2 if index % 2 else 0, drop_path=drop_path)
            for index, drop_path in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, W, C) to the stage's result, of the same shape, and what the next stage gets."""
        mask = shift_mask(x.shape[1], x.shape[2], self.window, self.window // 2, x.device)
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """4 x 4 pixels become one of C channels."""

    def __init__(self, dim: int, in_channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), C)."""
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(Backbone):
    """Four stages at strides 4 to 32, res2 to res5, each with a layer norm on its output."""

    @configurable
    def __init__(
        self,
        *,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path_rate: float = 0.3,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        use_checkpoint: bool = False,
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            dim: channels of the first stage; each later one has twice as many.
            depths: blocks of every stage.
            num_heads: heads of every stage.
            window: side of a window, pixels of the stage's map.
            drop_path_rate: stochastic depth of the last block, growing linearly from 0.
            out_features: what :meth:`forward` returns, of res2 to res5.
            use_checkpoint: in training compute blocks anew for the backward pass.
        """
        super().__init__()
        self._out_features = list(out_features)
        self._out_feature_strides = {f"res{stage + 2}": 4 * 2**stage for stage in range(len(depths))}
        self._out_feature_channels = {f"res{stage + 2}": dim * 2**stage for stage in range(len(depths))}
        self.patch_embed = PatchEmbed(dim, in_channels)
        drop_paths = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()  # also for a meta model
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(depths):
            first, is_last = sum(depths[:stage]), stage == len(depths) - 1
            self.layers.append(
                SwinStage(
                    dim * 2**stage,
                    num_heads[stage],
                    window,
                    drop_paths[first : first + depth],
                    downsample=not is_last,
                    use_checkpoint=use_checkpoint,
                )
            )
            if f"res{stage + 2}" in self._out_features:
                self.add_module(f"norm{stage}", nn.LayerNorm(dim * 2**stage))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        node = cfg.MODEL.SWIN
        return {
            "dim": node.EMBED_DIM,
            "depths": node.DEPTHS,
            "num_heads": node.NUM_HEADS,
            "window": node.WINDOW_SIZE,
            "drop_path_rate": node.DROP_PATH_RATE,
            "out_features": node.OUT_FEATURES,
            "use_checkpoint": node.USE_CHECKPOINT,
            "in_channels": input_shape.channels,
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Normalised images (B, 3, H, W) to ``{"res2": (B, C, ceil(H / 4), ceil(W / 4)), ...}``."""
        x = self.patch_embed(x)
        outputs = {}
        for stage, layer in enumerate(self.layers):
            out, x = layer(x)
            name = f"res{stage + 2}"
            if name in self._out_features:
                outputs[name] = getattr(self, f"norm{stage}")(out).permute(0, 3, 1, 2).contiguous()
        return outputs

    @property
    def size_divisibility(self) -> int:
        return 32


def relative_position_index(window: int) -> torch.Tensor:
    """(w * w, w * w) int64: the row of the bias table for each pair of pixels of a window, by (dy, dx)."""
    pixels = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # (w * w, 2)
    offsets = pixels[:, None] - pixels[None, :] + window - 1  # 0 .. 2 w - 2
    return offsets[..., 0] * (2 * window - 1) + offsets[..., 1]


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device | str) -> torch.Tensor:
    """What keeps pixels apart that only the cyclic shift brought into one window.

    Args:
        height, width: of the map, before it is padded to whole windows.

    Returns:
        (W, w * w, w * w) float32, 0 or -100.
    """
    rows, columns = (_regions(-(-size // window) * window, window, shift, device) for size in (height, width))
    regions = 3 * rows[:, None] + columns  # (padded height, padded width)
    regions = regions.view(len(rows) // window, window, len(columns) // window, window)
    regions = regions.transpose(1, 2).reshape(-1, window * window)  # (W, w * w)
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, BLOCKED)


def _regions(size: int, window: int, shift: int, device: torch.device | str) -> torch.Tensor:
    """(size,) which of three parts of a shifted axis a position came from."""
    positions = torch.arange(size, device=device)
    return (positions >= size - window).int() + (positions >= size - shift).int()
