"""Normalisation layers by name, and batch norm with fixed statistics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are fixed.

    All four are buffers, so no optimizer sees them. A new layer is the identity.
    """

    # 1: no running statistics in the state; 2: with them; 3: eps is no longer part of the variance.
    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        # Autograd keeps less for a multiply-add than for F.batch_norm, which saves for gradients nobody wants.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args, **kwargs):
        version = local_metadata.get("version")
        if version is None or version < 2:
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every BatchNorm2d and SyncBatchNorm inside ``module``, in place, keeping statistics and eps.

        Returns:
            ``module``, or its replacement if it is a batch norm itself.
        """
        return _replace(module, (nn.BatchNorm2d, nn.SyncBatchNorm), cls._from_batchnorm)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """The inverse: replace every FrozenBatchNorm2d inside ``module``, in place, by a trainable BatchNorm2d."""
        return _replace(module, (cls,), cls._to_batchnorm)

    @classmethod
    def _from_batchnorm(cls, norm: nn.Module) -> "FrozenBatchNorm2d":
        frozen = cls(norm.num_features, norm.eps).to(norm.running_mean.device)
        if norm.affine:
            frozen.weight = norm.weight.detach().clone()
            frozen.bias = norm.bias.detach().clone()
        frozen.running_mean = norm.running_mean.detach()
        frozen.running_var = norm.running_var.detach()
        frozen.num_batches_tracked = norm.num_batches_tracked
        return frozen

    @staticmethod
    def _to_batchnorm(frozen: "FrozenBatchNorm2d") -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(frozen.num_features, frozen.eps).to(frozen.weight.device)
        with torch.no_grad():
            norm.weight.copy_(frozen.weight)
            norm.bias.copy_(frozen.bias)
        norm.running_mean = frozen.running_mean.detach().clone()
        norm.running_var = frozen.running_var.detach().clone()
        return norm


def _replace(module: nn.Module, kinds: tuple[type, ...], convert: Callable[[nn.Module], nn.Module]) -> nn.Module:
    if isinstance(module, kinds):
        return convert(module).train(module.training)
    for name, child in module.named_children():
        replaced = _replace(child, kinds, convert)
        if replaced is not child:
            module.add_module(name, replaced)
    return module


class LayerNorm(nn.Module):
    """Layer norm over the channels of (N, C, H, W) (the form of ConvNeXt, arXiv:2201.03545)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        normalized = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return normalized.movedim(-1, 1)


_NORMS = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """A normalisation layer for ``out_channels`` channels.

    Args:
        norm: BN, SyncBN, nnSyncBN, FrozenBN, GN (32 groups) or LN (over channels); None or "" for no layer; or a
            callable that makes a layer from the number of channels.

    Raises:
        KeyError: for another name.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise KeyError(f"unknown norm '{norm}'; known: {', '.join(_NORMS)}")
        norm = _NORMS[norm]
    return norm(out_channels)
