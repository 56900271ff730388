import json
import math
import os

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import TrainerBase, hooks
from detectron2.solver import LRMultiplier
from detectron2.utils.events import EventWriter, JSONWriter
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn


class Trainer(TrainerBase):
    """Records the iteration as ``x``."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.fails_at = fails_at
        self.model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.scheduler = LRMultiplier(self.optimizer, LinearParamScheduler(1.0, 0.0), 10)

    def run_step(self):
        if self.iter == self.fails_at:
            raise RuntimeError("broken step")
        self.storage.put_scalar("x", self.iter)
        self.optimizer.step()


def run(hook_list, iterations=10, fails_at=None):
    trainer = Trainer(fails_at)
    trainer.register_hooks(hook_list)
    if fails_at is None:
        trainer.train(0, iterations)
    else:
        with pytest.raises(RuntimeError):
            trainer.train(0, iterations)
    return trainer


def recorded(trainer, name):
    return [(iteration, value) for value, iteration in trainer.storage.history(name).values()]


@pytest.mark.parametrize(
    "period, iterations, expected",
    [(4, 10, [3, 7, 10]), (5, 10, [4, 10]), (0, 3, [3]), (20, 10, [10])],
)
def test_evaluation_times(period, iterations, expected):
    trainer = run([hooks.EvalHook(period, lambda: {"a": {"b": 2}})], iterations)
    assert recorded(trainer, "a/b") == [(i, 2.0) for i in expected]


def test_no_evaluation_after_a_failure_or_if_not_wanted():
    calls = []
    run([hooks.EvalHook(0, lambda: calls.append(1))], fails_at=9)
    run([hooks.EvalHook(0, lambda: calls.append(1), eval_after_train=False)])
    assert calls == []


def test_evaluation_results_must_be_numbers():
    with pytest.raises(ValueError, match="a/b"):
        run([hooks.EvalHook(2, lambda: {"a": {"b": "high"}})], fails_at=None)
    with pytest.raises(AssertionError):
        run([hooks.EvalHook(2, lambda: [1.0])])


def test_evaluation_without_results():
    assert set(run([hooks.EvalHook(2, lambda: None)]).storage.latest()) == {"x"}


def test_learning_rate_is_recorded_before_the_schedule_steps():
    hook = hooks.LRScheduler()
    trainer = run([hook], 4)
    assert recorded(trainer, "lr") == [(i, pytest.approx(1 - i / 10)) for i in range(4)]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.6)
    assert hook.state_dict() == {"base_lrs": [1.0], "last_epoch": 4}


def test_learning_rate_from_a_multiplier():
    trainer = run([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.5))], 4)
    assert recorded(trainer, "lr") == [(i, pytest.approx(1 - i / 8)) for i in range(4)]


def test_schedule_state_is_loaded():
    hook = hooks.LRScheduler()
    trainer = Trainer()
    trainer.register_hooks([hook])
    hook.load_state_dict({"base_lrs": [1.0], "last_epoch": 7})
    assert trainer.scheduler.last_epoch == 7


@pytest.mark.parametrize(
    "groups, expected",
    [
        ([(1, 0.1), (3, 0.2), (2, 0.3)], 1),
        ([(1, 0.1), (1, 0.2), (1, 0.2)], 1),
        ([(1, 0.4)], 0),
    ],
)
def test_the_group_whose_rate_is_shown(groups, expected):
    groups = [{"params": [nn.Parameter(torch.zeros(1)) for _ in range(n)], "lr": lr} for n, lr in groups]
    assert hooks.representative_group(torch.optim.SGD(groups, lr=1.0)) == expected


def test_times_are_recorded_after_the_warmup():
    trainer = run([hooks.IterationTimer(warmup_iter=3)], 6)
    times = recorded(trainer, "time")
    assert [iteration for iteration, _ in times] == [2, 3, 4, 5]
    assert all(0 <= seconds < 1 for _, seconds in times)


def test_periodic_checkpoints(tmp_path):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    run([hooks.PeriodicCheckpointer(checkpointer, 4)])
    names = ["last_checkpoint", "model_0000003.pth", "model_0000007.pth", "model_final.pth"]
    assert sorted(os.listdir(tmp_path)) == names
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 9


def scores(values):
    """An evaluation that gives these values in turn."""
    values = iter(values)
    return lambda: {"segm/AP": next(values)}


@pytest.mark.parametrize(
    "mode, values, best",
    [
        ("max", [1.0, 3.0, 2.0, 2.5, 1.0], (3.0, 3)),
        ("min", [2.0, 3.0, 1.0, 2.5, 4.0], (1.0, 5)),
        ("max", [math.nan, math.inf, 1.0, 1.0, 5.0], (5.0, 10)),
    ],
)
def test_best_checkpoint(tmp_path, mode, values, best):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    hook = hooks.BestCheckpointer(2, checkpointer, "segm/AP", mode)
    run([hooks.EvalHook(2, scores(values)), hook])
    assert (hook.best_metric, hook.best_iter) == best
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == best[1]


def test_best_checkpoint_without_its_metric(tmp_path, caplog):
    run([hooks.BestCheckpointer(2, DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path)), "segm/AP")])
    assert os.listdir(tmp_path) == []
    assert "segm/AP" in caplog.text
    with pytest.raises(AssertionError):
        hooks.BestCheckpointer(2, None, "segm/AP", "best")


def test_writers_write_periodically_at_the_end_and_close(tmp_path):
    class Writer(EventWriter):
        def __init__(self):
            self.log = []

        def write(self):
            self.log.append(trainer.iter)

        def close(self):
            self.log.append("closed")

    writer = Writer()
    trainer = Trainer()
    json_writer = JSONWriter(str(tmp_path / "m.json"))
    trainer.register_hooks([hooks.EvalHook(0, lambda: {"a": 1.0}), hooks.PeriodicWriter([writer, json_writer], 4)])
    trainer.train(0, 10)
    assert writer.log == [3, 7, 9, 10, "closed"]
    lines = [json.loads(line) for line in (tmp_path / "m.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [3, 7, 9, 10]
    assert lines[-1] == {"iteration": 10, "a": 1.0}
    with pytest.raises(AssertionError):
        hooks.PeriodicWriter([print])


def test_callbacks():
    log = []

    def note(name):
        return lambda trainer: log.append((name, trainer.iter))

    hook = hooks.CallbackHook(
        before_train=note("before_train"),
        before_step=note("before_step"),
        after_step=note("after_step"),
        after_train=note("after_train"),
    )
    run([hook, hooks.CallbackHook()], 1)
    assert log == [("before_train", 0), ("before_step", 0), ("after_step", 0), ("after_train", 1)]


def test_precise_batch_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(1))
    batches = [torch.randn(8, 1) + 5 for _ in range(4)]
    trainer = run([hooks.PreciseBN(2, model, batches, 4)], 1)
    assert trainer.iter == 1
    assert model[0].running_mean.item() == pytest.approx(torch.cat(batches).mean().item(), rel=1e-5)
    frozen = nn.Sequential(nn.BatchNorm1d(1)).eval()
    run([hooks.PreciseBN(1, frozen, batches, 4)], 1)
    assert frozen[0].running_mean.item() == 0
