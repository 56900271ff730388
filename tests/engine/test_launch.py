"""Processes that torchrun has started."""

import argparse

import pytest
import torch
from detectron2.engine import DEFAULT_TIMEOUT

from vis_core.engine import launch


class Joined(Exception):
    pass


def test_processes_of_torchrun_wait_as_long_as_spawned_ones(monkeypatch):
    def join(backend, timeout=None):
        raise Joined(timeout)

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    with pytest.raises(Joined) as joined:
        launch(print, argparse.Namespace())
    assert joined.value.args == (DEFAULT_TIMEOUT,)
