"""Builds the optimizer and the learning-rate schedule that ``cfg.SOLVER`` describes."""

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from detectron2.solver.gradient_clipping import clipping_subclass, parameter_clipper
from detectron2.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler, ParamScheduler
from torch import nn
from torch.optim import Optimizer

NORM_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg, model: nn.Module) -> Optimizer:
    """SGD over the model's trainable parameters, with the clipping of ``SOLVER.CLIP_GRADIENTS``."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    sgd = maybe_add_gradient_clipping(cfg, torch.optim.SGD)
    return sgd(
        params,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )


def maybe_add_gradient_clipping(cfg, optimizer: type[Optimizer] | Optimizer) -> type[Optimizer] | Optimizer:
    """Make an optimizer clip gradients if ``cfg.SOLVER.CLIP_GRADIENTS`` is enabled.

    Every parameter is clipped separately. A class gives a subclass; an instance is changed in place and returned.
    """
    clip_cfg = cfg.SOLVER.CLIP_GRADIENTS
    if not clip_cfg.ENABLED:
        return optimizer
    clip = parameter_clipper(clip_cfg)
    if isinstance(optimizer, Optimizer):
        optimizer.__class__ = clipping_subclass(type(optimizer), clip)
        return optimizer
    return clipping_subclass(optimizer, clip)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer; what is left ``None`` stays the optimizer's own default.

    For one parameter the rules apply in this order, later ones winning: ``base_lr`` and ``weight_decay``; the
    decay of normalisation layers; the factor of its full name; the overrides of its own name.

    Args:
        model: its parameters with ``requires_grad``; a shared one is taken once.
        base_lr: learning rate of all groups.
        weight_decay: weight decay of all groups.
        weight_decay_norm: weight decay of the parameters of normalisation layers.
        bias_lr_factor: learning rate of parameters called ``bias``, relative to ``base_lr``.
        weight_decay_bias: weight decay of parameters called ``bias``.
        lr_factor_func: full parameter name → factor on the learning rate; needs ``base_lr``.
        overrides: own (last) name of a parameter → hyper-parameters to set.

    Raises:
        ValueError: a factor without ``base_lr``, or ``"bias"`` overridden twice.
    """
    if base_lr is None and (bias_lr_factor != 1.0 or lr_factor_func is not None):
        raise ValueError("learning rate factors need base_lr")
    overrides = dict(overrides or {})
    bias_options = {}
    if bias_lr_factor != 1.0:
        bias_options["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias_options["weight_decay"] = weight_decay_bias
    if bias_options:
        if "bias" in overrides:
            raise ValueError("overrides['bias'] conflicts with bias_lr_factor or weight_decay_bias")
        overrides["bias"] = bias_options

    common = {key: value for key, value in (("lr", base_lr), ("weight_decay", weight_decay)) if value is not None}
    params: list[dict[str, Any]] = []
    for full_name, name, module, parameter in _trainable_parameters(model):
        options = dict(common)
        if weight_decay_norm is not None and isinstance(module, NORM_LAYERS):
            options["weight_decay"] = weight_decay_norm
        if lr_factor_func is not None:
            options["lr"] *= lr_factor_func(full_name)
        options.update(overrides.get(name, {}))
        params.append({"params": [parameter], **options})
    return reduce_param_groups(params)


def _trainable_parameters(model: nn.Module) -> Iterable[tuple[str, str, nn.Module, nn.Parameter]]:
    """(full name, own name, owning module, parameter) of each trainable parameter, in module order."""
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield (f"{module_name}.{name}" if module_name else name), name, module, parameter


def reduce_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the groups that agree in all hyper-parameters: fewer groups make a faster optimizer step.

    ``param_names``, where given beside ``params``, is merged along.
    """
    merged: dict[tuple, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for item in _expand_param_groups(params):
        options = tuple(sorted((key, value) for key, value in item.items() if key not in ("params", "param_names")))
        merged[options]["params"].extend(item["params"])
        if "param_names" in item:
            merged[options]["param_names"].extend(item["param_names"])
    return [{**dict(options), **members} for options, members in merged.items()]


def _expand_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group per parameter; of a parameter that occurs again, later hyper-parameters update the earlier ones."""
    expanded: dict[nn.Parameter, dict[str, Any]] = {}
    for group in params:
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        for parameter, name in itertools.zip_longest(group["params"], group.get("param_names", [])):
            item = expanded.setdefault(parameter, {"params": [parameter]})
            item.update(options)
            if name is not None:
                item["param_names"] = [name]
    return list(expanded.values())


def build_lr_scheduler(cfg, optimizer: Optimizer) -> LRMultiplier:
    """The schedule named ``SOLVER.LR_SCHEDULER_NAME`` behind the warm-up of ``SOLVER.WARMUP_*``.

    Raises:
        ValueError: unknown schedule name, or milestones that the schedule cannot take (one equal to MAX_ITER, say).
    """
    solver = cfg.SOLVER
    schedule = WarmupParamScheduler(
        _main_schedule(solver),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def _main_schedule(solver) -> ParamScheduler:
    """The schedule without its warm-up, as a multiplier of ``SOLVER.BASE_LR``."""
    name = solver.LR_SCHEDULER_NAME
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if len(steps) != len(solver.STEPS):
            logging.getLogger(__name__).warning(
                "SOLVER.STEPS beyond SOLVER.MAX_ITER (%d) are ignored: %s", solver.MAX_ITER, tuple(solver.STEPS)
            )
        return MultiStepParamScheduler(
            values=[solver.GAMMA**k for k in range(len(steps) + 1)], milestones=steps, num_updates=solver.MAX_ITER
        )
    if name == "WarmupCosineLR":
        last = solver.BASE_LR_END / solver.BASE_LR
        if not 0.0 <= last <= 1.0:
            raise ValueError(f"SOLVER.BASE_LR_END must lie between 0 and SOLVER.BASE_LR, got {solver.BASE_LR_END}")
        return CosineParamScheduler(1.0, last)
    if name == "WarmupStepWithFixedGammaLR":
        # fvcore's StepWithFixedGammaParamScheduler has the same values, but fails when stepped after the last iteration
        parts = solver.NUM_DECAYS + 1
        return MultiStepParamScheduler(
            values=[solver.GAMMA**k for k in range(parts)],
            milestones=[math.ceil(k * solver.MAX_ITER / parts) for k in range(1, parts)],
            num_updates=solver.MAX_ITER,
        )
    raise ValueError(f"unknown SOLVER.LR_SCHEDULER_NAME '{name}'")
