import json
import os

import pytest
import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model, launch
from detectron2.utils import comm
from torch import nn


def write_ranks(folder, word):
    contents = {
        "word": word,
        "rank": comm.get_rank(),
        "local_rank": comm.get_local_rank(),
        "local_size": comm.get_local_size(),
        "backend": dist.get_backend(),
        "all": comm.all_gather(comm.get_rank()),
    }
    with open(os.path.join(folder, f"{comm.get_rank()}.json"), "w") as file:
        json.dump(contents, file)


def step_on_a_half(folder):
    """A step of two processes, each on half of the batch; rank 0 saves the weights."""
    batch = torch.arange(8.0).reshape(4, 2)[comm.get_rank() * 2 :][:2]
    for fp16 in (False, True):
        torch.manual_seed(0)
        model = create_ddp_model(nn.Linear(2, 1), broadcast_buffers=False, fp16_compression=fp16)
        (model(batch) ** 2).mean().backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        if comm.is_main_process():
            torch.save(model.module.state_dict(), os.path.join(folder, f"w{fp16:d}.pth"))


def report_and_step(folder, word):
    write_ranks(folder, word)
    step_on_a_half(folder)


def fail_on_rank_1():
    if comm.get_rank() == 1:
        raise ValueError("rank 1 is broken")


def cpu_only(monkeypatch):
    # processes are spawned, and inherit this
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_one_process_is_this_one():
    assert launch(lambda a, b: (a, b, os.getpid()), 1, args=(1, 2)) == (1, 2, os.getpid())


@pytest.mark.bundled_only
def test_two_processes(tmp_path, monkeypatch):
    cpu_only(monkeypatch)
    assert launch(report_and_step, 2, dist_url="auto", args=(str(tmp_path), "hello")) is None
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    common = {"word": "hello", "local_size": 2, "backend": "gloo", "all": [0, 1]}
    assert found == [{**common, "rank": rank, "local_rank": rank} for rank in range(2)]

    # they step like one process with the whole batch
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    (model(torch.arange(8.0).reshape(4, 2)) ** 2).mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    for fp16, tolerance in ((False, 1e-6), (True, 1e-3)):
        weights = torch.load(tmp_path / f"w{fp16:d}.pth", weights_only=True)
        for name, value in model.state_dict().items():
            assert torch.allclose(weights[name], value, atol=tolerance)


@pytest.mark.bundled_only
def test_an_error_of_one_process_comes_through(monkeypatch):
    cpu_only(monkeypatch)
    with pytest.raises(Exception, match="rank 1 is broken"):
        launch(fail_on_rank_1, 2, dist_url="auto")


def test_where_processes_meet():
    with pytest.raises(AssertionError, match="auto"):
        launch(print, 2, num_machines=2, dist_url="auto")


@pytest.mark.bundled_only
def test_several_processes_need_an_address():
    with pytest.raises(AssertionError, match="dist_url"):
        launch(print, 2)
