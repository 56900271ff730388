import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver import (
    LRMultiplier,
    WarmupParamScheduler,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import ConstantParamScheduler, LinearParamScheduler, StepWithFixedGammaParamScheduler
from torch import nn


def solver_cfg(**solver):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.MAX_ITER = 20
    cfg.SOLVER.STEPS = (10, 16)
    cfg.SOLVER.WARMUP_ITERS = 4
    cfg.SOLVER.WARMUP_FACTOR = 0.1
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def rates(cfg) -> list[float]:
    """The learning rate of every iteration, base rate 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    out = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def linear_warmup(last):
    return [0.1 + (last - 0.1) * i / 4 for i in range(4)]


def test_multi_step_after_linear_warmup():
    expected = linear_warmup(1.0) + [1.0] * 6 + [0.1] * 6 + [0.01] * 4
    assert rates(solver_cfg()) == pytest.approx(expected)


def test_constant_warmup():
    assert rates(solver_cfg(WARMUP_METHOD="constant"))[:5] == pytest.approx([0.1] * 4 + [1.0])


def test_cosine_goes_on_under_the_warmup():
    cfg = solver_cfg(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.05)
    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 20)) for i in range(20)]
    assert rates(cfg) == pytest.approx(linear_warmup(cosine[4]) + cosine[4:])


def test_cosine_rescaled_starts_after_the_warmup():
    cfg = solver_cfg(LR_SCHEDULER_NAME="WarmupCosineLR", RESCALE_INTERVAL=True)
    cosine = [0.5 * (1 + math.cos(math.pi * i / 16)) for i in range(16)]
    assert rates(cfg) == pytest.approx(linear_warmup(1.0) + cosine)


@pytest.mark.parametrize("max_iter", [20, 21, 23])
def test_fixed_gamma(max_iter):
    cfg = solver_cfg(
        LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR", NUM_DECAYS=3, GAMMA=0.5, WARMUP_ITERS=0, MAX_ITER=max_iter
    )
    reference = StepWithFixedGammaParamScheduler(base_value=1.0, num_decays=3, gamma=0.5, num_updates=max_iter)
    found = rates(cfg)
    assert found == pytest.approx([reference(i / max_iter) for i in range(max_iter)])
    assert found[0] == 1.0 and found[-1] == 0.125


def test_steps_beyond_the_end_are_dropped_with_a_warning(caplog):
    cfg = solver_cfg(STEPS=(10, 30))
    assert rates(cfg)[-1] == pytest.approx(0.1)
    assert "30" in caplog.text


@pytest.mark.parametrize(
    "solver",
    [
        {"STEPS": (10, 20)},  # a step at the end
        {"LR_SCHEDULER_NAME": "Nothing"},
        {"WARMUP_METHOD": "quadratic"},
    ],
)
def test_impossible_schedules(solver):
    with pytest.raises(ValueError):
        rates(solver_cfg(**solver))


def test_warmup_over_the_whole_training():
    scheduler = WarmupParamScheduler(ConstantParamScheduler(2.0), 0.5, 1.0, "constant", rescale_interval=True)
    assert [scheduler(x) for x in (0.0, 0.5, 0.99)] == [1.0, 1.0, 1.0]


def test_scheduler_state_resumes_under_another_length():
    def make(max_iter, lr=1.0):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        return optimizer, LRMultiplier(optimizer, LinearParamScheduler(1.0, 0.0), max_iter)

    optimizer, scheduler = make(10)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    state = scheduler.state_dict()
    assert state == {"base_lrs": [1.0], "last_epoch": 3}
    resumed_optimizer, resumed = make(5)
    resumed.load_state_dict(state)
    resumed_optimizer.step()
    resumed.step()
    assert resumed_optimizer.param_groups[0]["lr"] == pytest.approx(1 - 4 / 5)


def test_multiplier_must_be_a_schedule():
    with pytest.raises(ValueError):
        LRMultiplier(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), lambda x: x, 10)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 2)
        self.tied = self.head
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def hyper(groups, parameter):
    return next(
        {key: value for key, value in group.items() if key != "params"}
        for group in groups
        if any(p is parameter for p in group["params"])
    )


def test_groups_of_parameters():
    net = Net()
    groups = get_default_optimizer_params(
        net,
        base_lr=1.0,
        weight_decay=0.1,
        weight_decay_norm=0.0,
        bias_lr_factor=2.0,
        weight_decay_bias=0.3,
        lr_factor_func=lambda name: 0.5 if name.startswith("backbone.") else 1.0,
    )
    conv, norm = net.backbone
    assert hyper(groups, conv.weight) == {"lr": 0.5, "weight_decay": 0.1}
    assert hyper(groups, norm.weight) == {"lr": 0.5, "weight_decay": 0.0}
    assert hyper(groups, net.head.weight) == {"lr": 1.0, "weight_decay": 0.1}
    # the bias options win over the factor of the name
    assert hyper(groups, conv.bias) == hyper(groups, norm.bias) == {"lr": 2.0, "weight_decay": 0.3}
    members = [p for group in groups for p in group["params"]]
    assert len(members) == len(set(members)) == 6, "tied ones once, frozen ones not at all"
    assert len(groups) == 4, "equal hyper-parameters share a group"


def test_overrides_by_own_name():
    net = Net()
    groups = get_default_optimizer_params(net, overrides={"weight": {"weight_decay": 0.7}})
    assert hyper(groups, net.head.weight) == {"weight_decay": 0.7}
    assert hyper(groups, net.head.bias) == {}


def test_conflicting_or_incomplete_options():
    with pytest.raises(ValueError):
        get_default_optimizer_params(Net(), base_lr=1.0, bias_lr_factor=2.0, overrides={"bias": {"lr": 1.0}})
    with pytest.raises(ValueError):
        get_default_optimizer_params(Net(), bias_lr_factor=2.0)


def test_optimizer_from_a_config():
    cfg = solver_cfg(MOMENTUM=0.8, NESTEROV=True, WEIGHT_DECAY=0.02, WEIGHT_DECAY_NORM=0.01)
    net = Net()
    optimizer = build_optimizer(cfg, net)
    assert type(optimizer) is torch.optim.SGD
    group = hyper(optimizer.param_groups, net.head.weight)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, 0.8, True, 0.02)
    assert hyper(optimizer.param_groups, net.backbone[1].bias)["weight_decay"] == 0.01


def clip_cfg(**clip):
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    for key, value in clip.items():
        setattr(cfg.SOLVER.CLIP_GRADIENTS, key, value)
    return cfg


def step_of(optimizer, parameters):
    parameters[0].grad = torch.tensor([3.0, -4.0])
    parameters[1].grad = torch.tensor([0.1])
    optimizer.step()
    return [p.detach().tolist() for p in parameters]


@pytest.mark.parametrize("as_instance", [False, True])
@pytest.mark.parametrize(
    "clip, expected",
    [
        ({"CLIP_TYPE": "value", "CLIP_VALUE": 2.0}, [[-2.0, 2.0], [-0.1]]),
        ({"CLIP_TYPE": "norm", "CLIP_VALUE": 1.0}, [[-0.6, 0.8], [-0.1]]),
        ({"CLIP_TYPE": "norm", "CLIP_VALUE": 1.0, "NORM_TYPE": math.inf}, [[-0.75, 1.0], [-0.1]]),
    ],
)
def test_clips_each_parameter_on_its_own(clip, expected, as_instance):
    # a third parameter never gets a gradient
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    if as_instance:
        optimizer = maybe_add_gradient_clipping(clip_cfg(**clip), torch.optim.SGD(parameters, lr=1.0))
    else:
        optimizer = maybe_add_gradient_clipping(clip_cfg(**clip), torch.optim.SGD)(parameters, lr=1.0)
    assert type(optimizer).__name__ == "SGDWithGradientClip"
    assert isinstance(optimizer, torch.optim.SGD)
    found = step_of(optimizer, parameters)
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert found[1] == pytest.approx(expected[1], abs=1e-5)


def test_disabled_clipping_changes_nothing():
    assert maybe_add_gradient_clipping(get_cfg(), torch.optim.SGD) is torch.optim.SGD


def test_unknown_clipping():
    with pytest.raises(ValueError):
        maybe_add_gradient_clipping(clip_cfg(CLIP_TYPE="full_model"), torch.optim.SGD)
