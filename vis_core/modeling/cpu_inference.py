"""A network's twin that is faster on a CPU. The network itself trains, is saved, and runs everywhere else.

A twin shares tensors with its network, but does not follow when that is changed: make one for each video, which takes
some hundredths of a second. It computes without gradients only. Its results differ by roundings.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from vis_core.ops import onednn, winograd
from vis_core.ops.group_norm import group_norm

Network = TypeVar("Network", bound=nn.Module)
NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


def with_winograd(network: Network) -> Network:
    """The twin whose 3x3 convolutions of many channels take Winograd's way, or the network itself where none can."""
    if not _is_for_cpu(network):
        return network
    twin = _copy(network)
    for layer in twin.modules():
        if _is_plain(layer) and _is_padded_3x3(layer):
            _prepare(layer).__class__ = _WinogradConv2d
    return twin


@torch.no_grad()
def for_inference(network: Network) -> Network:
    """The fastest twin, or the network itself where there is none (not on a CPU, and in training).

    As :func:`with_winograd`, and other convolutions and linear layers take oneDNN's kernels, maps lie in channels_last,
    and batch norm with fixed statistics is folded into the convolution before it.
    """
    if not _is_for_cpu(network):
        return network
    twin = _copy(network)
    for layer in twin.modules():
        if _is_plain(layer):
            _fold_norm(_prepare(layer))
            layer.__class__ = _FastPadded3x3 if _is_padded_3x3(layer) else _FastConv2d
        elif type(layer) is nn.Linear:
            layer.__class__ = _FastLinear
        elif type(layer) is nn.GroupNorm and layer.affine:
            layer.__class__ = _ExactGroupNorm
    return twin


def _is_for_cpu(network: nn.Module) -> bool:
    tensors = itertools.chain(network.parameters(), network.buffers())
    return not network.training and all(x.device.type == "cpu" and x.dtype != torch.float64 for x in tensors)


def _copy(network: Network) -> Network:
    """A copy in which layers can be given another class. (Another layer in their place would not do: whoever refers to
    them besides would keep the old one.)"""
    return copy.deepcopy(network, {id(x): x for x in itertools.chain(network.parameters(), network.buffers())})


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) in (Conv2d, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _is_padded_3x3(layer: nn.Conv2d) -> bool:
    sizes = (layer.kernel_size, layer.padding, layer.stride, layer.dilation)
    return sizes == ((3, 3), (1, 1), (1, 1), (1, 1)) and layer.groups == 1


def _prepare(layer: nn.Conv2d) -> nn.Conv2d:
    """PyTorch's own convolution with the attributes of Detectron2's."""
    for name in ("norm", "activation"):
        setattr(layer, name, getattr(layer, name, None))
    return layer


def _fold_norm(layer: nn.Conv2d) -> None:
    norm = layer.norm
    if isinstance(norm, NORMS) and norm.running_mean is not None and norm.weight is not None:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        layer.bias = _constant(shift if layer.bias is None else shift + layer.bias * scale)
        layer.weight = _constant(layer.weight * scale[:, None, None, None])
        layer.norm = None


def _constant(x: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(x, requires_grad=False)


class _WinogradConv2d(Conv2d):
    kernel: torch.Tensor | None = None  # once it was needed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not onednn.usable(x) or not winograd.pays_off(x, self.weight):
            return super().forward(x)
        if self.kernel is None:
            self.kernel = winograd.transform(self.weight)
        return _finish(self, winograd.conv3x3(x, self.kernel, self.bias))


class _FastConv2d(Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not onednn.usable(x):
            return super().forward(x)
        sizes = self.stride, self.padding, self.dilation, self.groups
        return _finish(self, onednn.conv2d(x, self.weight, self.bias, *sizes))


def _finish(layer: Conv2d, x: torch.Tensor) -> torch.Tensor:
    x = x if layer.norm is None else layer.norm(x)
    return x if layer.activation is None else layer.activation(x)


class _ExactGroupNorm(nn.GroupNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not onednn.usable(x) or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _FastPadded3x3(_WinogradConv2d, _FastConv2d):
    """Winograd's way where it pays off, oneDNN's elsewhere."""


class _FastLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return onednn.linear(x, self.weight, self.bias) if onednn.usable(x) else super().forward(x)
