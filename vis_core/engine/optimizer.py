"""Optimizers of the four methods: SGD or AdamW, learning-rate multipliers by parameter name, full-model clipping."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from vis_core.errors import ConfigError

NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Optimizer of ``SOLVER.OPTIMIZER`` ("SGD" or "ADAMW") over :func:`parameter_groups`, with gradient clipping.

    Raises ConfigError for an unknown optimizer.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        base_lr=solver.BASE_LR,
        backbone_multiplier=solver.BACKBONE_MULTIPLIER,
        name_multipliers=dict(solver.LR_MULTIPLIERS),
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    if solver.OPTIMIZER == "SGD":
        optimizer_class, options = torch.optim.SGD, {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    elif solver.OPTIMIZER == "ADAMW":
        optimizer_class, options = torch.optim.AdamW, {}
    else:
        raise ConfigError(f"SOLVER.OPTIMIZER: '{solver.OPTIMIZER}' is not one of SGD, ADAMW")
    clip = solver.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE == "full_model":
        optimizer_class = _with_full_model_clipping(optimizer_class, clip.CLIP_VALUE, clip.NORM_TYPE)
        return optimizer_class(groups, solver.BASE_LR, **options)
    optimizer = optimizer_class(groups, solver.BASE_LR, **options)
    return maybe_add_gradient_clipping(cfg, optimizer)


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    backbone_multiplier: float,
    name_multipliers: Mapping[str, float] = MappingProxyType({}),
    bias_lr_factor: float,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_embed: float,
    weight_decay_bias: float | None,
) -> list[dict]:
    """Trainable parameters, each once, gathered into groups of equal learning rate and weight decay.

    A parameter below a module named ``backbone`` learns at ``base_lr * backbone_multiplier``, one below a module that
    ``name_multipliers`` names ("sampling_offsets") by that factor slower or faster. Decay goes by the
    owning module: norm layers, embeddings and relative position tables (Swin's absolute and relative ones), biases
    (None = like weights), everything else.
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        parts = set(module_name.split("."))
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            lr, decay = base_lr, weight_decay
            if "backbone" in parts:
                lr *= backbone_multiplier
            for part in parts & name_multipliers.keys():
                lr *= name_multipliers[part]
            if isinstance(module, NORM_LAYERS):
                decay = weight_decay_norm
            elif isinstance(module, nn.Embedding):
                decay = weight_decay_embed
            elif name in ("relative_position_bias_table", "absolute_pos_embed"):
                decay = 0.0
            elif name == "bias":
                lr *= bias_lr_factor
                decay = weight_decay if weight_decay_bias is None else weight_decay_bias
            members.setdefault((lr, decay), []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in members.items()]


def _with_full_model_clipping(optimizer_class: type, max_norm: float, norm_type: float) -> type:
    """Subclass whose step first scales all gradients so that their joint norm is at most ``max_norm``."""

    class FullModelClip(optimizer_class):
        def step(self, closure=None):
            parameters = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
            torch.nn.utils.clip_grad_norm_(list(parameters), max_norm, norm_type=norm_type)
            return super().step(closure)

    FullModelClip.__name__ = f"{optimizer_class.__name__}WithFullModelClip"
    return FullModelClip
