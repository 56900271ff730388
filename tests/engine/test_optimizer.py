import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from vis_core.config import add_vis_config
from vis_core.engine.optimizer import build_optimizer, parameter_groups
from vis_core.errors import ConfigError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
        self.head = nn.Linear(4, 2)
        self.query = nn.Embedding(5, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def group_of(groups, parameter):
    return next(g for g in groups if any(p is parameter for p in g["params"]))


def test_groups_follow_the_owning_module():
    net = Net()
    groups = parameter_groups(
        net,
        base_lr=1.0,
        backbone_multiplier=0.1,
        bias_lr_factor=2.0,
        weight_decay=0.05,
        weight_decay_norm=0.01,
        weight_decay_embed=0.02,
        weight_decay_bias=0.03,
    )

    def settings(parameter):
        group = group_of(groups, parameter)
        return group["lr"], group["weight_decay"]

    assert settings(net.backbone[0].weight) == (0.1, 0.05)
    assert settings(net.backbone[0].bias) == (0.2, 0.03)
    assert settings(net.backbone[1].bias) == (0.1, 0.01)
    assert settings(net.head.weight) == (1.0, 0.05)
    assert settings(net.query.weight) == (1.0, 0.02)
    grouped = [p for g in groups for p in g["params"]]
    assert len(grouped) == len(set(grouped)) == sum(p.requires_grad for p in net.parameters())


def test_modules_may_be_named_that_learn_more_slowly():
    net = Net()
    cfg = config(BASE_LR=1.0, BACKBONE_MULTIPLIER=0.5, LR_MULTIPLIERS=[["head", 0.1], ["1", 0.2]])
    groups = build_optimizer(cfg, net).param_groups
    expected = {net.head.weight: 0.1, net.head.bias: 0.1, net.query.weight: 1.0}
    expected |= {net.backbone[0].weight: 0.5, net.backbone[1].weight: 0.1}
    for parameter, lr in expected.items():
        assert group_of(groups, parameter)["lr"] == pytest.approx(lr)


def config(**solver):
    cfg = get_cfg()
    add_vis_config(cfg)
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("ADAMW", torch.optim.AdamW)])
def test_optimizer_by_name(name, kind):
    assert isinstance(build_optimizer(config(OPTIMIZER=name), Net()), kind)


def test_unknown_optimizer_is_a_config_error():
    with pytest.raises(ConfigError, match=r"SOLVER.OPTIMIZER: 'ADAM'"):
        build_optimizer(config(OPTIMIZER="ADAM"), Net())


def test_full_model_clipping_bounds_the_joint_norm():
    cfg = config(BASE_LR=1.0, MOMENTUM=0.0, WEIGHT_DECAY=0.0, WEIGHT_DECAY_NORM=0.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    net = Net()
    optimizer = build_optimizer(cfg, net)
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.full_like(p, 10.0) if p.requires_grad else None
    optimizer.step()
    step = torch.cat([(a - b).flatten() for a, b in zip(before, net.parameters())])
    assert step.norm().item() == pytest.approx(0.5, rel=1e-4)
