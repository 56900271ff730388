"""Results that cannot be written: one line that names the place, before the work where that can be known."""

import json
import os

import pytest
import torch
from typer.testing import CliRunner

from vis_core.atomic import make_folder
from vis_core.checkpoint.files import write_checkpoint
from vis_core.cli.main import app
from vis_core.errors import DataError

resource = pytest.importorskip("resource")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    video = {"id": 1, "height": 2, "width": 2, "length": 1, "file_names": ["a/0.jpg"]}
    track = {"video_id": 1, "category_id": 1, "segmentations": [{"size": [2, 2], "counts": "04"}]}
    gt = {"videos": [video, {**video, "id": 2}], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "gt.json").write_text(json.dumps({**gt, "annotations": [{"id": 1, **track}]}))
    (tmp_path / "results.json").write_text(json.dumps([{"score": 0.5, **track}]))
    torch.save({"model": {"a": torch.zeros(10)}}, tmp_path / "model.pth")
    (tmp_path / "plain").write_text("a file")
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("demo --out plain", "plain"),
        ("demo --out plain/below", "plain/below"),
        ("data convert gt.json plain/below.json", "plain/below.json"),
        ("data convert gt.json plain/below --to mots", "plain/below"),
        ("data split gt.json --out plain", "plain/train.json"),
        ("model export model.pth plain/below.pth", "plain/below.pth"),
        ("model export model.pth taken", "taken"),
        ("evaluate results.json --gt gt.json --report plain/below.html", "plain/below.html"),
        ("evaluate results.json --gt gt.json --report taken", "taken"),
        ("submit results.json --gt gt.json --out plain/below.zip", "plain/below.zip"),
        ("submit results.json --gt gt.json --out taken", "taken"),
    ],
)
def test_the_place_is_named(command, place, folder):
    result = CliRunner().invoke(app, command.split())
    assert isinstance(result.exception, DataError), result.exception
    assert str(result.exception).startswith(f"{place}: ")
    assert len(str(result.exception).splitlines()) == 1


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    make_folder(tmp_path / "a" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(DataError, match="a: the folder cannot be written to"):
        make_folder(tmp_path / "a")


def test_a_checkpoint_on_a_full_disk(tmp_path):
    write_checkpoint({"a": 1}, tmp_path / "a.pth")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"a\.pth: cannot be written \(File too large\)"):
            write_checkpoint({"a": torch.zeros(100_000)}, tmp_path / "a.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(tmp_path / "a.pth") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_demo_has_nothing_to_evaluate_from_scratch():
    result = CliRunner().invoke(app, ["demo", "--iterations", "0", "--from-scratch"])
    assert "--from-scratch leaves no weights" in str(result.exception)


def test_submit_counts_in_words(folder):
    result = CliRunner().invoke(app, ["submit", "results.json", "--gt", "gt.json"])
    assert "1 track in 1 video: results.zip" in result.output


@pytest.mark.parametrize("group", ["data", "model"])
def test_groups_have_no_options_of_a_shell(group):
    assert "completion" not in CliRunner().invoke(app, [group, "--help"]).output
