"""The propagation head: finds given objects in another frame by reading a memory of masked frames.

A space-time memory network (Oh et al., ICCV 2019) on the detector's own features. Frame-only work (:meth:`query`,
:meth:`skips`) is apart from work for each object (:meth:`memorise`, :meth:`read`, :meth:`decode`).

Shapes: N objects, M memory entries, C channels of the pyramid, D and E of keys and values, (h, w) the size of p2, so
that the padded image is (4h, 4w) and the memory's grid (g, v) = (h / 4, w / 4), rounded up; S = g * v.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

# Queries that are compared with the memory at once on a CPU, where there is no fused kernel for keys and values of
# different widths: bounds the affinity matrix, and keeps it in the cache.
QUERIES_PER_CHUNK = 160
CERTAIN = 1e-7  # probabilities stay so far from 0 and 1 when objects are weighed against each other


class ResBlock(nn.Module):
    """Two 3x3 convolutions, each behind a ReLU, beside a shortcut; no ReLU at the end."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if in_channels != out_channels or stride != 1:
            self.downsample = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        else:
            self.downsample = None
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        # In place where a convolution's output is its only use: these maps are large.
        return self.conv2(self.conv1(F.relu(x)).relu_()).add_(shortcut)


class Refine(nn.Module):
    """Doubles the resolution of objects' maps with a finer map of the frame."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convFS = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.ResFS = ResBlock(out_channels, out_channels)
        self.ResMM = ResBlock(out_channels, out_channels)

    def skip(self, stage: torch.Tensor) -> torch.Tensor:
        """What the frame contributes: (1, in_channels, h, w) to (1, out_channels, h, w)."""
        return self.ResFS(self.convFS(stage))

    def forward(self, skip: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """(1, C, h, w) from :meth:`skip` and (N, C, h / 2, w / 2) to (N, C, h, w)."""
        return self.ResMM(F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False).add_(skip))


class PropagationHead(nn.Module):
    """Weights under the released names, so that published files need no renaming here."""

    def __init__(self, channels: int, stage_channels: tuple[int, int], key_dim: int = 64, value_dim: int = 256) -> None:
        """
        Args:
            channels: C, of the pyramid and of this head.
            stage_channels: of the backbone's maps at strides 4 and 8 (res2, res3).
            key_dim, value_dim: D and E.
        """
        super().__init__()
        self.enc_pos = nn.Conv2d(1, channels, 7, padding=3)
        self.enc_fuse = nn.Sequential(ResBlock(channels, channels, 2), ResBlock(channels, 2 * channels, 2))
        self.atn_key = nn.Conv2d(2 * channels, key_dim, 1)
        self.atn_value = nn.Conv2d(2 * channels, value_dim, 1)
        self.qry_fuse = nn.Sequential(ResBlock(channels, channels, 2), ResBlock(channels, 2 * channels, 2))
        self.qry_atn_key = nn.Conv2d(2 * channels, key_dim, 1)
        self.qry_atn_value = nn.Conv2d(2 * channels, value_dim, 1)
        self.convFM = nn.Conv2d(2 * value_dim, channels, 3, padding=1)
        self.ResMM = ResBlock(channels, channels)
        self.RF3 = Refine(stage_channels[1], channels)
        self.RF2 = Refine(stage_channels[0], channels)
        self.pred2 = nn.Conv2d(channels, 2, 3, padding=1)

    def memorise(self, p2: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (N, D, g, v) and values (N, E, g, v) of one frame's objects, each encoded on its own.

        Args:
            p2: (1, C, h, w).
            masks: (N, H, W) in [0, 1], H <= 4h and W <= 4w; zero beyond.
        """
        height, width = p2.shape[-2:]
        masks = F.pad(masks[:, None], (0, 4 * width - masks.shape[-1], 0, 4 * height - masks.shape[-2]))
        masks = F.interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)  # (N, 1, h, w)
        fused = self.enc_fuse(p2 + self.enc_pos(masks.to(p2.dtype)))  # (N, 2C, g, v)
        return self.atn_key(fused), self.atn_value(fused)

    def query(self, p2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query key (1, D, g, v) and value (1, E, g, v) of a frame with p2 (1, C, h, w)."""
        fused = self.qry_fuse(p2)
        return self.qry_atn_key(fused), self.qry_atn_value(fused)

    def skips(self, res2: torch.Tensor, res3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What a frame's backbone maps contribute to decoding: (1, C, h, w) and (1, C, h / 2, w / 2)."""
        return self.RF2.skip(res2), self.RF3.skip(res3)

    def decode(
        self, read: torch.Tensor, query_value: torch.Tensor, skips: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Each object's probability on its own, (N, 4h, 4w), at least float32.

        Args:
            read: (N, E, g, v) from the memory.
            query_value: (1, E, g, v) of :meth:`query`.
            skips: of :meth:`skips`.
        """
        x = torch.cat([read, query_value.expand(len(read), -1, -1, -1)], dim=1)  # (N, 2E, g, v)
        x = self.ResMM(self.convFM(x))  # (N, C, g, v)
        x = self.RF3(skips[1], x)  # (N, C, h / 2, w / 2)
        x = self.RF2(skips[0], x)  # (N, C, h, w)
        logits = F.interpolate(self.pred2(x.relu_()), scale_factor=4, mode="bilinear", align_corners=False)
        return logits.softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))[:, 1]


def read_memory(keys: torch.Tensor, values: torch.Tensor, query_key: torch.Tensor) -> torch.Tensor:
    """Every query position's mean of the memory's values, weighed by how well keys fit (softmax over the memory).

    Args:
        keys, values: (N, M, S, D) and (N, M, S, E), of N objects and M entries.
        query_key: (1, D, g, v).

    Returns:
        (N, E, g, v).
    """
    queries = query_key.flatten(2).transpose(1, 2)  # (1, S, D)
    if queries.device.type == "cpu" and not torch.is_grad_enabled():
        return read_memory_by_chunks(keys, values, query_key)[0]
    keys, values = keys.flatten(1, 2)[:, None], values.flatten(1, 2)[:, None]  # (N, 1, M * S, D or E)
    read = F.scaled_dot_product_attention(queries.expand(len(keys), 1, -1, -1), keys, values)  # (N, 1, S, E)
    return read[:, 0].transpose(1, 2).unflatten(2, query_key.shape[-2:])


def read_memory_by_chunks(
    keys: torch.Tensor, values: torch.Tensor, query_key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`read_memory`, a few query positions at a time, and each entry's share of all reads, (M,) float32.

    On a CPU this is faster than PyTorch's attention, which has no fused kernel for keys and values of different width.
    """
    num_objects, num_entries, num_positions, width = keys.shape
    queries = query_key.flatten(2)[0].T * width**-0.5  # (S, D)
    out = values.new_empty(num_objects, *query_key.shape[-2:], values.shape[-1]).flatten(1, 2)  # (N, S, E)
    shares = torch.zeros(num_entries, device=keys.device)
    for n in range(num_objects):
        own_keys, own_values = keys[n].flatten(0, 1).T, values[n].flatten(0, 1)  # (D, M * S), (M * S, E)
        for begin in range(0, len(queries), QUERIES_PER_CHUNK):
            part = slice(begin, begin + QUERIES_PER_CHUNK)
            weights = (queries[part] @ own_keys).softmax(dim=1)
            out[n, part] = weights @ own_values
            shares += weights.sum(dim=0).view(num_entries, num_positions).sum(dim=1)
    shares /= num_objects * len(queries)
    return out.transpose(1, 2).unflatten(2, query_key.shape[-2:]), shares


def as_entry(x: torch.Tensor) -> torch.Tensor:
    """A frame's keys or values (N, D, g, v) as one memory entry, (N, 1, S, D), for :func:`read_memory`."""
    return x.flatten(2).transpose(1, 2)[:, None]


def soft_aggregate(probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weigh objects and background against each other.

    Args:
        probabilities: (N, H, W) float32, each object's own.

    Returns:
        Logits and their softmax over the first dimension, both (1 + N, H, W), background first.
    """
    background = torch.prod(1 - probabilities, dim=0, keepdim=True)
    p = torch.cat([background, probabilities]).clamp(CERTAIN, 1 - CERTAIN)
    logits = torch.log(p / (1 - p))
    return logits, logits.softmax(dim=0)
