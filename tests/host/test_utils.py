import json
import logging
import pickle
import random

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import TORCH_VERSION, seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import (
    create_small_table,
    log_every_n,
    log_every_n_seconds,
    log_first_n,
    setup_logger,
)
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry, locate
from detectron2.utils.serialize import PicklableWrapper


def test_registry_and_locate():
    registry = Registry("THINGS")

    @registry.register()
    class Thing:
        pass

    assert registry.get("Thing") is Thing and "Thing" in registry and list(registry) == [("Thing", Thing)]
    with pytest.raises(AssertionError):
        registry.register(Thing)
    with pytest.raises(KeyError):
        registry.get("Other")
    assert locate("torch.nn.Conv2d") is torch.nn.Conv2d
    with pytest.raises(ImportError):
        locate("torch.nn.NoSuchLayer")


def test_communication_within_one_process():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank(), comm.get_local_size()) == (1, 0, 0, 1)
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.gather({"a": 1}) == [{"a": 1}] and comm.all_gather(3) == [3]
    losses = {"loss": torch.tensor(2.0)}
    assert comm.reduce_dict(losses) == losses


def test_shared_seed_is_one_draw():
    np.random.seed(5)
    expected = [np.random.randint(2**31), np.random.rand()]
    np.random.seed(5)
    assert [comm.shared_random_seed(), np.random.rand()] == expected


def test_seeding_covers_all_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_all_rng(7)
    first = draw()
    seed_all_rng(7)
    assert draw() == first
    seed_all_rng()
    assert draw() != first


def test_torch_version():
    assert TORCH_VERSION >= (2, 4) and torch.__version__.startswith(".".join(map(str, TORCH_VERSION)))


@pytest.fixture
def messages():
    """Texts logged to "vis_core_test" and, by default name, from this file."""
    texts = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("vis_core_test", __name__)]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield texts
    for logger in loggers:
        logger.removeHandler(handler)


def test_messages_that_do_not_repeat(messages):
    for i in range(6):
        log_first_n(logging.INFO, f"first {i}", 2, name="vis_core_test")
        log_every_n(logging.INFO, f"every {i}", 3)
        log_every_n_seconds(logging.INFO, f"seconds {i}", 60)
    assert messages == ["first 0", "every 0", "seconds 0", "first 1", "every 3"]


def test_messages_that_are_the_same_by_text(messages):
    for i in range(4):
        log_first_n(logging.INFO, f"text {i % 2}", name="vis_core_test", key="message")
        log_first_n(logging.INFO, f"both {i % 2}", name="vis_core_test", key=("caller", "message"))
    assert messages == ["text 0", "both 0", "text 1", "both 1"]


def test_setup_logger(tmp_path, capsys):
    logger = setup_logger(str(tmp_path / "sub"), name="vis_core_test_setup", abbrev_name="short", color=True)
    assert setup_logger(str(tmp_path / "sub"), name="vis_core_test_setup", abbrev_name="short", color=True) is logger
    other_rank = setup_logger(str(tmp_path / "all.txt"), distributed_rank=1, name="vis_core_test_rank")
    logging.getLogger("vis_core_test_setup.module").warning("careful")
    other_rank.info("quiet")
    assert len(logger.handlers) == 2 and not logger.propagate
    out = capsys.readouterr().out
    assert "short.module" in out and out.count("careful") == 1 and "quiet" not in out
    assert "vis_core_test_rank INFO: quiet" in (tmp_path / "all.txt.rank1").read_text()
    assert "careful" in (tmp_path / "sub" / "log.txt").read_text()


def test_small_table():
    header, rule, row = create_small_table({"AP": 12.34567, "AP50": 3.0}).splitlines()
    assert [c.strip() for c in header.strip("|").split("|")] == ["AP", "AP50"]
    assert [c.strip() for c in row.strip("|").split("|")] == ["12.346", "3.000"] and set(rule) <= set("|:-")


def test_path_manager(tmp_path):
    with PathManager.open(str(tmp_path / "a.json"), "w") as f:
        json.dump([1], f)
    assert PathManager.isfile(str(tmp_path / "a.json")) and PathManager.get_local_path(str(tmp_path)) == str(tmp_path)


def test_wrapped_lambdas_can_be_pickled():
    k = 3
    wrapped = PicklableWrapper(lambda x: x + k)
    again = pickle.loads(pickle.dumps(PicklableWrapper(wrapped)))
    assert wrapped(1) == again(1) == 4 and again.__name__ == "<lambda>"


class TestRetryIfCudaOom:
    def test_third_try_is_the_last(self):
        calls = []

        def function(x, *, y):
            calls.append((x, y))
            if len(calls) < 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            return x + y

        assert retry_if_cuda_oom(function)(1, y=torch.tensor(2)) == 3 and len(calls) == 3

    def test_other_errors_pass_through_at_once(self):
        calls = []

        @retry_if_cuda_oom
        def function():
            calls.append(1)
            raise RuntimeError("something else")

        with pytest.raises(RuntimeError, match="something else"):
            function()
        assert len(calls) == 1


def test_environment_report():
    report = collect_env_info()
    assert torch.__version__ in report and np.__version__ in report and "detectron2" in report
