import pytest
import torch
from torch import nn

from vis_core.checkpoint import VideoCheckpointer, converters, register_converter
from vis_core.errors import CheckpointError


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


@pytest.fixture
def no_converters(monkeypatch):
    monkeypatch.setattr(converters, "_CONVERTERS", {})


def test_round_trip_with_extras(tmp_path):
    model = small_model()
    VideoCheckpointer(model, str(tmp_path)).save("model_0000009", iteration=9)
    other = small_model()
    rest = VideoCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert rest["iteration"] == 9
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000009.pth"


def test_foreign_file_is_recognised_and_renamed(tmp_path, no_converters):
    register_converter(
        "toy",
        matches=lambda keys: any(key.startswith("toy.") for key in keys),
        convert=lambda weights: {key.removeprefix("toy."): value for key, value in weights.items()},
    )
    source = small_model()
    foreign = {f"toy.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": foreign, "epoch": 12}, tmp_path / "foreign.pth")
    model = small_model()
    VideoCheckpointer(model, require_all=True).load(str(tmp_path / "foreign.pth"))
    assert torch.equal(model[1].weight, source[1].weight)


def test_overlapping_rules_are_a_bug(no_converters):
    register_converter("one", lambda keys: True, dict)
    register_converter("two", lambda keys: True, dict)
    with pytest.raises(ValueError, match="one, two"):
        converters.find_converter({"a"})
    with pytest.raises(ValueError, match="registered already"):
        register_converter("one", lambda keys: True, dict)


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save({"model": {"x.weight": torch.ones(1), "y.weight": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: not weights for Sequential: only 0 of its 2 tensors fit"):
        VideoCheckpointer(small_model()).load(str(tmp_path / "other.pth"))


def test_partial_weights_start_training_but_not_inference(tmp_path):
    weights = small_model().state_dict()
    weights["1.weight"] = torch.ones(9, 9)  # another number of classes
    torch.save({"model": weights}, tmp_path / "partial.pth")
    VideoCheckpointer(small_model()).load(str(tmp_path / "partial.pth"))
    with pytest.raises(CheckpointError, match=r"1 of another shape \(1\.weight\)"):
        VideoCheckpointer(small_model(), require_all=True).load(str(tmp_path / "partial.pth"))


def test_a_query_matches_names_by_their_tails(tmp_path, monkeypatch):
    source = small_model()
    torch.save({"model": {f"net.{key}": value for key, value in source.state_dict().items()}}, tmp_path / "w.pth")
    read = []
    original = VideoCheckpointer._load_file

    def spy(self, filename):
        contents = original(self, filename)
        read.append(dict(contents))  # as it is before the host adds to it
        return contents

    monkeypatch.setattr(VideoCheckpointer, "_load_file", spy)
    whole = nn.ModuleDict({"model": nn.ModuleDict({"net": small_model()})})
    checkpointer = VideoCheckpointer(whole)
    checkpointer.load(f"{tmp_path}/w.pth?matching_heuristics=True")
    assert torch.equal(whole["model"]["net"][1].weight, source[1].weight)
    # The bundled host would do it anyway; the official one does if the file says so.
    assert read[0]["matching_heuristics"] is True
    with pytest.raises(CheckpointError, match="only 0 of its 4 tensors fit"):
        checkpointer.load(f"{tmp_path}/w.pth")
    assert "matching_heuristics" not in read[1]
    with pytest.raises(CheckpointError, match="unknown query 'prefix'"):
        checkpointer.load(f"{tmp_path}/w.pth?prefix=net")


def test_missing_file_is_one_line():
    with pytest.raises(CheckpointError, match=r"weights file not found: nope\.pth"):
        VideoCheckpointer(small_model()).load("nope.pth")


def test_another_model_cannot_go_on_with_a_run(tmp_path):
    VideoCheckpointer(small_model(), str(tmp_path)).save("model_0000009", iteration=9)
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))  # another number of classes
    message = r"model_0000009\.pth: was trained with another model \(1\.weight has shape \(4, 3\), now \(5, 3\)\)"
    with pytest.raises(CheckpointError, match=message):
        VideoCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    VideoCheckpointer(other, str(tmp_path)).resume_or_load(str(tmp_path / "model_0000009.pth"), resume=False)
    longer = nn.Sequential(*small_model(), nn.Linear(4, 4))
    with pytest.raises(CheckpointError, match=r"another model \(2\.\w+ is not in it\)"):
        VideoCheckpointer(longer, str(tmp_path)).resume_or_load("", resume=True)
