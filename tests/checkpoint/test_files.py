import argparse
import contextlib
import os
import pickle

import numpy as np
import pytest
import torch

from vis_core.checkpoint.files import read_checkpoint, weights_of, write_checkpoint
from vis_core.errors import CheckpointError


class RunsOnLoad:
    """Pickles to a call of os.mkdir: loading it unsafely leaves a folder behind."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class TrainingLog:
    def __init__(self):
        self.history = [1, 2, 3]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_weights_beside_foreign_objects_are_read(tmp_path, zipped):
    path = tmp_path / "detr_style.pth"
    contents = {
        "model": {"a.weight": torch.arange(3.0), "b": np.arange(4)},
        "args": argparse.Namespace(lr=0.1, scale=np.float64(3)),
        "log": TrainingLog(),
    }
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    weights = weights_of(read_checkpoint(path))
    assert list(weights) == ["a.weight", "b"]
    assert torch.equal(weights["a.weight"], torch.arange(3.0))
    assert torch.equal(weights["b"], torch.arange(4))


def test_nothing_from_a_file_is_executed(tmp_path):
    folder = tmp_path / "made_by_unpickling"
    path = tmp_path / "hostile.pth"
    torch.save({"model": {"a": torch.ones(1)}, "payload": RunsOnLoad(folder)}, path)
    # PyTorch refuses a call of os.mkdir, and so the whole file; version 2.4 lets us put a placeholder in its place.
    with contextlib.suppress(CheckpointError):
        assert list(weights_of(read_checkpoint(path))) == ["a"]
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists(), "the file is as hostile as the test says"


def test_what_one_file_is_allowed_the_next_is_not(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


@pytest.mark.parametrize("field", ["model", "state_dict", "model_state_dict", None])
def test_weights_are_found_in_the_usual_fields(field):
    weights = {"w": torch.ones(2)}
    contents = weights if field is None else {field: weights, "epoch": 3}
    assert list(weights_of(contents)) == ["w"]


def test_no_weights_is_an_error():
    with pytest.raises(CheckpointError, match="holds no weights"):
        weights_of({"epoch": 3}, "some.pth")


def test_truncated_file_names_itself(tmp_path):
    path = tmp_path / "cut.pth"
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cut\.pth.*truncated"):
        read_checkpoint(path)


def test_missing_file():
    with pytest.raises(CheckpointError, match=r"not found: nowhere\.pth"):
        read_checkpoint("nowhere.pth")


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, str(tmp_path / "m.safetensors"))
    assert torch.equal(read_checkpoint(tmp_path / "m.safetensors")["w"], torch.ones(2))
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        read_checkpoint(tmp_path / "bad.safetensors")


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.pth"
    write_checkpoint({"model": {"a": torch.ones(1)}}, path)
    with pytest.raises(Exception, match=r"pickle|local object"):  # as the version of Python has it
        write_checkpoint({"model": {"a": torch.zeros(1)}, "bad": lambda: None}, path)
    assert read_checkpoint(path)["model"]["a"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m.pth"]
