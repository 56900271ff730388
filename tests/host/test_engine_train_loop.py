"""The loop, its steps and their metrics."""

import itertools
import logging

import pytest
import torch
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn


class Recorder(HookBase):
    def __init__(self, name, log):
        self.name, self.log = name, log

    def note(self, what):
        self.log.append((self.name, what, self.trainer.iter, self.trainer.storage.iter))

    def before_train(self):
        self.note("before_train")

    def after_train(self):
        self.note("after_train")

    def before_step(self):
        self.note("before_step")

    def after_step(self):
        self.note("after_step")


class Steps(TrainerBase):
    def __init__(self, log, fails_at=None):
        super().__init__()
        self.log, self.fails_at = log, fails_at

    def run_step(self):
        assert get_event_storage() is self.storage
        if self.iter == self.fails_at:
            raise RuntimeError("broken step")
        self.log.append(("trainer", "run_step", self.iter, self.storage.iter))


def test_order_of_hooks_and_iterations():
    log = []
    trainer = Steps(log)
    trainer.register_hooks([Recorder("a", log), None, Recorder("b", log)])
    trainer.train(3, 5)

    def iteration(i):
        both = [("before_step", "a"), ("before_step", "b"), ("run_step", "trainer"), ("after_step", "a")]
        return [(who, what, i, i) for what, who in [*both, ("after_step", "b")]]

    expected = [(who, "before_train", 3, 3) for who in "ab"] + iteration(3) + iteration(4)
    assert log == expected + [(who, "after_train", 5, 5) for who in "ab"]
    assert (trainer.start_iter, trainer.max_iter) == (3, 5)


def test_after_train_runs_after_a_failure(caplog):
    log = []
    trainer = Steps(log, fails_at=1)
    trainer.register_hooks([Recorder("a", log)])
    with pytest.raises(RuntimeError, match="broken step"), caplog.at_level(logging.ERROR):
        trainer.train(0, 5)
    # not max_iter: hooks see that the training was not finished
    assert log[-1] == ("a", "after_train", 1, 1)
    assert "broken step" in caplog.text


def test_only_hooks_are_registered_and_by_a_weak_proxy():
    trainer = Steps([])
    with pytest.raises((TypeError, AssertionError)):
        trainer.register_hooks([object()])
    hook = HookBase()
    trainer.register_hooks([hook])
    del trainer
    with pytest.raises(ReferenceError):
        hook.trainer.iter  # noqa: B018


class Counting(HookBase):
    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count} if self.count else {}

    def load_state_dict(self, state):
        self.count = state["count"]


class CountingToo(Counting):
    pass


def test_state_of_hooks(caplog):
    trainer = Steps([])
    trainer.register_hooks([HookBase(), Counting(3), CountingToo(4)])
    trainer.train(0, 2)
    state = trainer.state_dict()
    assert state == {"iteration": 2, "hooks": {"Counting": {"count": 3}, "CountingToo": {"count": 4}}}

    other, hook = Steps([]), Counting()
    other.register_hooks([hook])
    other.load_state_dict(state)
    assert (other.iter, hook.count) == (2, 3)
    assert "CountingToo" in caplog.text


def test_state_without_hook_states():
    trainer = Steps([])
    trainer.register_hooks([Counting()])
    assert trainer.state_dict() == {"iteration": 0}


# The official one trains on CUDA only.
AMP_ON_CPU = pytest.param(AMPTrainer, marks=pytest.mark.bundled_only)


class Losses(nn.Module):
    """loss_a = mean of w·x; loss_b is constant."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))
        self.grad_was_none = []

    def forward(self, x):
        self.grad_was_none.append(self.w.grad is None)
        return {"loss_a": (self.w * x).mean(), "loss_b": torch.tensor(0.5)}


def simple(trainer_class=SimpleTrainer, data=None, model=None, lr=0.1, **kwargs):
    model = (model or Losses()).eval()
    loader = itertools.repeat(torch.tensor([1.0, 3.0])) if data is None else data
    return trainer_class(model, loader, torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_step_and_its_metrics(asynchronous):
    trainer = simple(async_write_metrics=asynchronous)
    assert trainer.model.training
    trainer.train(0, 3)
    # the gradient is the mean of x = 2: w goes 1, 0.8, 0.6, 0.4
    assert trainer.model.w.item() == pytest.approx(0.4)
    history = trainer.storage.history("loss_a").values()
    assert [value for value, _ in history] == pytest.approx([2.0, 1.6, 1.2])
    assert [iteration for _, iteration in history] == [0, 1, 2]
    assert trainer.storage.history("total_loss").latest() == pytest.approx(1.7)
    assert set(trainer.storage.latest()) == {"data_time", "rank_data_time", "loss_a", "loss_b", "total_loss"}


def test_a_single_tensor_is_the_total_loss():
    class Scalar(Losses):
        def forward(self, x):
            return (self.w * x).mean()

    trainer = simple(model=Scalar())
    trainer.train(0, 1)
    assert [value for value, _ in trainer.storage.history("total_loss").values()] == [2.0]
    assert set(trainer.storage.latest()) == {"data_time", "rank_data_time", "total_loss"}


@pytest.mark.parametrize("trainer_class", [SimpleTrainer, AMP_ON_CPU])
@pytest.mark.parametrize("before", [False, True])
def test_when_gradients_are_zeroed(trainer_class, before):
    trainer = simple(trainer_class, zero_grad_before_forward=before)
    trainer.train(0, 2)
    assert trainer.model.grad_was_none == [True, before]


def test_metrics_every_other_iteration():
    trainer = simple(gather_metric_period=2)
    trainer.train(0, 5)
    assert [iteration for _, iteration in trainer.storage.history("loss_a").values()] == [1, 3]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_infinite_loss_ends_the_training(asynchronous):
    data = [torch.tensor([1.0]), torch.tensor([float("nan")]), torch.tensor([1.0])]
    trainer = simple(data=data, async_write_metrics=asynchronous)
    with pytest.raises(FloatingPointError, match="iteration 1"):
        trainer.train(0, 3)


def test_a_model_in_evaluation_mode_is_not_trained():
    trainer = simple()
    trainer.model.eval()
    with pytest.raises(AssertionError, match=r"eval(uation)? mode"):
        trainer.train(0, 1)


def test_after_backward_sees_gradients_before_the_step():
    seen = []

    class Look(HookBase):
        def after_backward(self):
            seen.append((self.trainer.model.w.grad.item(), self.trainer.model.w.item()))

    trainer = simple()
    trainer.register_hooks([Look()])
    trainer.train(0, 2)
    assert seen == [(2.0, 1.0), (2.0, pytest.approx(0.8))]


def test_data_loader_is_opened_late_and_can_be_replaced():
    trainer = simple(data=None)
    trainer.data_loader = [torch.tensor([10.0])]
    trainer.train(0, 1)
    assert trainer.storage.history("loss_a").latest() == 10.0
    trainer.reset_data_loader(lambda: [torch.tensor([20.0])])
    trainer.model.w.data.fill_(1.0)
    trainer.train(0, 1)
    assert trainer.storage.history("loss_a").latest() == 20.0


def test_state_has_the_optimizer():
    trainer = simple(lr=0.25)
    trainer.train(0, 2)
    state = trainer.state_dict()
    assert sorted(state) == ["iteration", "optimizer"]
    other = simple(lr=1.0)
    other.load_state_dict(state)
    assert other.optimizer.param_groups[0]["lr"] == 0.25
    assert other.iter == 2


class Precise(nn.Module):
    """A product of which bfloat16 loses the last digits; notes the precision of its forward pass."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(1, 1, bias=False)
        self.lin.weight.data.fill_(1.001)
        self.dtypes = []

    def forward(self, x):
        y = self.lin(x)
        self.dtypes.append(y.dtype)
        return {"loss": y.float().sum()}


@pytest.mark.bundled_only
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_on_the_cpu_is_bfloat16(precision):
    trainer = simple(AMPTrainer, itertools.repeat(torch.ones(1, 1)), Precise(), precision=precision)
    trainer.train(0, 2)
    assert trainer.model.dtypes == [torch.bfloat16] * 2
    assert trainer.model.lin.weight.dtype == torch.float32
    # the gradient, 1, and the update are exact; the loss is not
    assert trainer.model.lin.weight.item() == pytest.approx(0.801, abs=1e-6)
    assert trainer.storage.history("loss").values()[0] == (1.0, 0)
    assert sorted(trainer.state_dict()) == ["iteration", "optimizer"]


@pytest.mark.bundled_only
def test_mixed_precision_with_loss_scaling():
    """A given scaler is used anywhere; the optimizer sees true gradients."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []

    class Look(HookBase):
        def after_backward(self):
            seen.append(self.trainer.model.lin.weight.grad.item())

    trainer = simple(
        AMPTrainer, itertools.repeat(torch.ones(1, 1)), Precise(), grad_scaler=scaler, log_grad_scaler=True
    )
    trainer.register_hooks([Look()])
    trainer.train(0, 1)
    assert seen == [4.0]
    assert trainer.model.lin.weight.item() == pytest.approx(0.901, abs=1e-6)
    assert trainer.storage.latest()["[metric]grad_scaler"] == (4.0, 0)
    state = trainer.state_dict()
    assert state["grad_scaler"]["scale"] == 4.0

    other = simple(AMPTrainer, model=Precise(), grad_scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
    other.load_state_dict(state)
    assert other.grad_scaler.get_scale() == 4.0
    unscaled = simple(AMPTrainer, model=Precise(), precision=torch.bfloat16)
    unscaled.load_state_dict(state)
    assert unscaled.grad_scaler is None


@pytest.mark.bundled_only
def test_infinite_loss_under_mixed_precision():
    trainer = simple(AMPTrainer, itertools.repeat(torch.full((1, 1), float("inf"))), Precise())
    with pytest.raises(FloatingPointError), EventStorage():
        trainer.train(0, 1)
