"""Optimizers that clip each parameter's gradient before a step."""

from collections.abc import Callable

import torch
from torch.optim import Optimizer

ParameterClipper = Callable[[torch.nn.Parameter], None]


def parameter_clipper(clip_cfg) -> ParameterClipper:
    """The in-place clipping of one parameter's gradient that a ``SOLVER.CLIP_GRADIENTS`` node asks for.

    Raises:
        ValueError: ``CLIP_TYPE`` is neither ``"value"`` nor ``"norm"``.
    """
    limit, norm_type = clip_cfg.CLIP_VALUE, clip_cfg.NORM_TYPE
    if clip_cfg.CLIP_TYPE == "value":
        return lambda parameter: torch.nn.utils.clip_grad_value_([parameter], limit)
    if clip_cfg.CLIP_TYPE == "norm":
        return lambda parameter: torch.nn.utils.clip_grad_norm_([parameter], limit, norm_type=norm_type)
    raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be 'value' or 'norm', got '{clip_cfg.CLIP_TYPE}'")


def clipping_subclass(optimizer_class: type[Optimizer], clip: ParameterClipper) -> type[Optimizer]:
    """A subclass named ``<Class>WithGradientClip`` whose ``step`` clips every parameter on its own first."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    clip(parameter)
        return super(subclass, self).step(closure)

    subclass = type(optimizer_class.__name__ + "WithGradientClip", (optimizer_class,), {"step": step})
    return subclass
