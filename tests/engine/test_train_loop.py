"""The training step under autocast: its precision, and resuming with another one."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from torch import nn

from vis_core.config import add_vis_config
from vis_core.engine.train_loop import AutocastTrainer, build_train_loop
from vis_core.errors import ConfigError

MODES = ("plain", "bfloat16", "scaled")


def trainer(mode: str) -> SimpleTrainer:
    """ "scaled" is float16 training on CUDA, whose loss scaling works on any device."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if mode == "plain":
        return SimpleTrainer(model, None, optimizer)
    made = AutocastTrainer(model, None, optimizer, device_type="cpu", precision=torch.bfloat16)
    if mode == "scaled":
        made.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    return made


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_a_run_may_be_resumed_with_another_precision(before, after):
    first, resumed = trainer(before), trainer(after)
    first.iter = 5
    if after == "scaled":
        resumed.grad_scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    resumed.load_state_dict(first.state_dict())
    assert resumed.iter == 5
    if after == "scaled":
        assert resumed.grad_scaler.get_scale() == (4.0 if before == "scaled" else 64.0)


def test_on_the_cpu_every_precision_is_bfloat16():
    cfg = get_cfg()
    add_vis_config(cfg)
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cpu", True
    model = nn.Linear(1, 1)
    for precision in ("float16", "bfloat16"):
        cfg.SOLVER.AMP.PRECISION = precision
        made = build_train_loop(cfg, model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        assert made.precision == torch.bfloat16 and not made.grad_scaler.is_enabled()
    cfg.SOLVER.AMP.PRECISION = "float8"
    with pytest.raises(ConfigError, match="float8"):
        build_train_loop(cfg, model, None, None)
