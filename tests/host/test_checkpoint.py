import collections
import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 1)
        self.conv1.norm = nn.BatchNorm2d(2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = Stem()
        self.fc = nn.Linear(2, 3)
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1), persistent=False)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def tensors(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def dump(contents, path, protocol=2):
    with open(path, "wb") as file:
        pickle.dump(contents, file, protocol=protocol)
    return str(path)


def test_saves_and_resumes_everything(net, tmp_path):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.25, momentum=0.9)
    checkpointer = DetectionCheckpointer(net, str(tmp_path), optimizer=optimizer)
    assert not checkpointer.has_checkpoint()
    checkpointer.save("a", iteration=4)
    contents = torch.load(tmp_path / "a.pth", weights_only=True)
    assert sorted(contents) == ["iteration", "model", "optimizer"]
    assert (tmp_path / "last_checkpoint").read_text() == "a.pth"

    other = Net()
    other_optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    fresh = DetectionCheckpointer(other, str(tmp_path), optimizer=other_optimizer)
    assert fresh.resume_or_load("ignored.pth", resume=True) == {"iteration": 4}
    assert other_optimizer.param_groups[0]["lr"] == 0.25
    for key, value in tensors(net).items():
        assert torch.equal(other.state_dict()[key], value)


def test_without_resuming_only_the_weights_are_loaded(net, tmp_path):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.25)
    DetectionCheckpointer(net, str(tmp_path), optimizer=optimizer).save("a", iteration=4)
    other = Net()
    other_optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    checkpointer = DetectionCheckpointer(other, str(tmp_path), optimizer=other_optimizer)
    rest = checkpointer.resume_or_load(str(tmp_path / "a.pth"), resume=False)
    assert sorted(rest) == ["iteration", "optimizer"]
    assert other_optimizer.param_groups[0]["lr"] == 1.0
    assert torch.equal(other.fc.weight, net.fc.weight)


def test_empty_path_and_missing_file(net, tmp_path):
    assert DetectionCheckpointer(net).load("") == {}
    with pytest.raises(AssertionError):
        DetectionCheckpointer(net).load(str(tmp_path / "none.pth"))


def test_periodic_checkpointer_keeps_the_newest(net, tmp_path):
    periodic = PeriodicCheckpointer(DetectionCheckpointer(net, str(tmp_path)), 2, max_iter=7, max_to_keep=1)
    for iteration in range(7):
        periodic.step(iteration)
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000005.pth", "model_final.pth"]


def test_a_process_that_does_not_write(net, tmp_path):
    DetectionCheckpointer(net, str(tmp_path), save_to_disk=False).save("a")
    assert os.listdir(tmp_path) == []


def test_wrong_shape_is_left_out_and_named(net, tmp_path, caplog):
    before, state = tensors(net), {key: torch.full_like(value, 3) for key, value in tensors(net).items()}
    state["fc.weight"] = torch.zeros(1, 1)
    torch.save({"model": {"module." + key: value for key, value in state.items()}}, tmp_path / "w.pth")
    DetectionCheckpointer(net).load(str(tmp_path / "w.pth"))
    assert torch.equal(net.fc.weight, before["fc.weight"])
    assert torch.equal(net.fc.bias, state["fc.bias"])
    assert "fc.weight" in caplog.text


def test_bare_state_dict_and_silent_constants(net, tmp_path, caplog):
    state = {key: torch.full_like(value, 3) for key, value in tensors(net).items()}
    state |= {"pixel_mean": torch.ones(3, 1, 1), "rpn.anchor_generator.cell_anchors.0": torch.ones(3, 4)}
    torch.save(state, tmp_path / "w.pth")
    assert DetectionCheckpointer(net).load(str(tmp_path / "w.pth")) == {}
    assert torch.equal(net.fc.weight, state["fc.weight"])
    assert "pixel_mean" not in caplog.text and "cell_anchors" not in caplog.text
    torch.save({**state, "stranger": torch.ones(1)}, tmp_path / "w2.pth")
    DetectionCheckpointer(net).load(str(tmp_path / "w2.pth"))
    assert "stranger" in caplog.text


def test_tensor_file_that_runs_code_is_refused(net, tmp_path):
    torch.save({"model": tensors(net), "args": Command()}, tmp_path / "w.pth")
    with pytest.raises(pickle.UnpicklingError):
        DetectionCheckpointer(net).load(str(tmp_path / "w.pth"))


def test_heuristics_by_query(net, tmp_path):
    state = {key.removeprefix("backbone."): torch.full_like(value, 3) for key, value in tensors(net).items()}
    path = str(tmp_path / "w.pth")
    torch.save({"model": state}, path)
    DetectionCheckpointer(net).load(path)
    assert not (net.backbone.stem.conv1.weight == 3).any()
    DetectionCheckpointer(net).load(path + "?matching_heuristics=True")
    assert (net.backbone.stem.conv1.weight == 3).all()
    with pytest.raises(ValueError):
        DetectionCheckpointer(net).load(path + "?strict=True")


def test_the_longest_tail_wins(net, tmp_path):
    weights = {"conv1.norm.weight": np.full(2, 5.0, "f4"), "stem.conv1.norm.weight": np.full(2, 6.0, "f4")}
    path = dump({"model": weights, "__author__": "x", "matching_heuristics": True}, tmp_path / "w.pkl")
    rest = DetectionCheckpointer(net).load(path)
    assert net.backbone.stem.conv1.norm.weight.tolist() == [6.0, 6.0]
    assert rest == {"__author__": "x", "matching_heuristics": True}


def test_a_tail_is_whole_names_only(net, tmp_path, caplog):
    path = dump(
        {"model": {"ias": np.ones(3, "f4")}, "__author__": "x", "matching_heuristics": True}, tmp_path / "w.pkl"
    )
    before = tensors(net)
    DetectionCheckpointer(net).load(path)
    assert torch.equal(net.fc.bias, before["fc.bias"])
    assert "ias" in caplog.text


def test_one_entry_for_two_names_is_an_error(net, tmp_path):
    twin = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 3)})
    path = dump(
        {"model": {"bias": np.ones(3, "f4")}, "__author__": "x", "matching_heuristics": True}, tmp_path / "w.pkl"
    )
    with pytest.raises(ValueError, match="bias"):
        DetectionCheckpointer(twin).load(path)


def test_heuristics_skip_another_shape(net, tmp_path, caplog):
    before = tensors(net)
    path = dump(
        {"model": {"conv1.bias": np.ones(9, "f4")}, "__author__": "x", "matching_heuristics": True}, tmp_path / "w.pkl"
    )
    DetectionCheckpointer(net).load(path)
    assert torch.equal(net.backbone.stem.conv1.bias, before["backbone.stem.conv1.bias"])
    assert "conv1.bias" in caplog.text


@pytest.mark.parametrize("wrap", [lambda blobs: blobs, lambda blobs: {"blobs": blobs}])
def test_caffe2_resnet(net, tmp_path, wrap):
    blobs = {
        "conv1_w": np.full((2, 3, 1, 1), 2.0, "f4"),
        "conv1_w_momentum": np.full((2, 3, 1, 1), 9.0, "f4"),
        "res_conv1_bn_s": np.full(2, 3.0, "f4"),
        "res_conv1_bn_b": np.full(2, 4.0, "f4"),
        "res_conv1_bn_rm": np.full(2, 5.0, "f4"),
        "res_conv1_bn_riv": np.full(2, 6.0, "f4"),
    }
    DetectionCheckpointer(net).load(dump(wrap(blobs), tmp_path / "w.pkl"))
    conv = net.backbone.stem.conv1
    found = [conv.weight, conv.norm.weight, conv.norm.bias, conv.norm.running_mean, conv.norm.running_var]
    assert [value.flatten()[0].item() for value in found] == [2.0, 3.0, 4.0, 5.0, 6.0]


class Command:
    """What an attacker would put into a file."""

    def __reduce__(self):
        return (os.mkdir, ("owned",))


class Pixels(np.ndarray):
    pass


MODEL = {"w": np.arange(6, dtype="f4").reshape(2, 3)}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol_are_read(net, tmp_path, protocol):
    contents = {
        "model": collections.OrderedDict(
            [
                ("fc.weight", np.asfortranarray(np.arange(6, dtype=">f4").reshape(3, 2)).astype("f4", order="F")),
                ("fc.bias", np.arange(3, dtype="f8")),
            ]
        ),
        "__author__": "é",
        "big": np.array([1.5, 2.5], ">f8"),
        "numbers": (1, 2.5, None, True, {3}, b"\xff\x00", np.float32(1.5), np.int64(7), 1j, [np.array(["a", "b"])]),
    }
    rest = DetectionCheckpointer(net).load(dump(contents, tmp_path / "w.pkl", protocol))
    assert net.fc.weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert net.fc.bias.tolist() == [0, 1, 2]
    assert rest["__author__"] == "é"
    assert rest["numbers"][:9] == contents["numbers"][:9]
    assert rest["big"].tolist() == [1.5, 2.5]
    assert rest["numbers"][9][0].tolist() == ["a", "b"]


def python2_pickle() -> bytes:
    """{'model': {'fc.bias': array([1, 2, 3], '<f4')}, '__author__': 'x'} as Python 2 and numpy 1 spell it."""
    raw = np.array([1, 2, 3], "<f4").tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x03tcnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tb"
    )
    return b"\x80\x02}(U\x05model}U\x07fc.bias" + array + b"sU\x0a__author__U\x01xu."


def test_python2_pickle_is_read(net, tmp_path):
    (tmp_path / "w.pkl").write_bytes(python2_pickle())
    DetectionCheckpointer(net).load(str(tmp_path / "w.pkl"))
    assert net.fc.bias.tolist() == [1, 2, 3]


@pytest.mark.bundled_only
@pytest.mark.parametrize(
    "contents, refused",
    [
        (Command(), "mkdir"),
        ({"model": MODEL, "__author__": Command()}, "mkdir"),
        ({"model": MODEL, "__author__": eval}, "eval"),
        ({"model": MODEL, "__author__": np.array([Command()], dtype=object)}, "mkdir|dtype object"),
        ({"model": MODEL, "__author__": np.array([None], dtype=object)}, "dtype object"),
        ({"model": MODEL, "__author__": np.zeros(1, dtype=[("a", "f4")])}, "dtype"),
        ({"model": MODEL, "__author__": np.zeros(1, dtype="M8[s]")}, "dtype datetime64"),
        ({"model": MODEL, "__author__": torch.ones(1)}, "torch"),
        ({"model": {"w": np.ones(2).view(Pixels)}, "__author__": "x"}, "Pixels"),
        ({"model": MODEL, "__author__": collections.Counter()}, "collections.Counter"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_of_anything_else_are_refused(net, tmp_path, monkeypatch, contents, refused, protocol):
    monkeypatch.chdir(tmp_path)
    path = dump(contents, tmp_path / "evil.pkl", protocol)
    with pytest.raises(pickle.UnpicklingError, match=refused) as error:
        DetectionCheckpointer(net).load(path)
    assert "evil.pkl" in str(error.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.bundled_only
@pytest.mark.parametrize(
    "crafted",
    [
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00base64tR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(c__builtin__\ndict\n(K\x00tU\x01btR.",
        b"cnumpy\nndarray\n(I9\ntR.",
        b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'<'\n(S'f8'\nI2\nttb.",
        b"cbuiltins\nset.__init__\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"Pid\n.",
        b"\x80\x02}q",
        b"no pickle at all",
    ],
)
def test_crafted_and_broken_pickles(net, tmp_path, crafted):
    (tmp_path / "w.pkl").write_bytes(crafted)
    with pytest.raises(pickle.UnpicklingError, match=r"w\.pkl"):
        DetectionCheckpointer(net).load(str(tmp_path / "w.pkl"))


@pytest.mark.bundled_only
def test_a_list_is_no_checkpoint(net, tmp_path):
    with pytest.raises(ValueError, match=r"w\.pkl"):
        DetectionCheckpointer(net).load(dump([1, 2], tmp_path / "w.pkl"))
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth"):
        DetectionCheckpointer(net).load(str(tmp_path / "w.pth"))


def test_catalog_paths(monkeypatch):
    asked = []
    original = type(PathManager).get_local_path

    def fake(self, path, *args, **kwargs):
        asked.append(path)
        return "/cache/file" if path.startswith("http") else original(self, path, *args, **kwargs)

    monkeypatch.setattr(type(PathManager), "get_local_path", fake)
    assert PathManager.get_local_path("catalog://ImageNetPretrained/MSRA/R-50") == "/cache/file"
    assert asked[1] == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert asked[2].endswith("/detectron2/ImageNetPretrained/MSRA/R-50.pkl")
    with pytest.raises(RuntimeError, match="R-51"):
        PathManager.get_local_path("catalog://ImageNetPretrained/MSRA/R-51")
