"""Files are whole or the old ones, and a place that cannot be written is named in one line."""

import errno
import json
import os

import numpy as np
import pytest

from vis_core.atomic import replacing, write_json, write_text
from vis_core.checkpoint.files import write_checkpoint
from vis_core.data.label_maps import read_label_map, write_label_map
from vis_core.errors import DataError


def test_the_file_appears_with_its_folder(tmp_path):
    with replacing(tmp_path / "a" / "b.txt") as partial:
        partial.write_text("new")
        assert partial.suffix == ".txt" and not (tmp_path / "a" / "b.txt").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    write_json({"ä": 1}, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == {"ä": 1}


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_text("x", tmp_path / "x.txt")
    finally:
        os.umask(before)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_a_block_that_fails_leaves_the_old_file(error, tmp_path):
    write_text("old", tmp_path / "x.txt")
    with pytest.raises(type(error)), replacing(tmp_path / "x.txt") as partial:
        partial.write_text("ne")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"] and (tmp_path / "x.txt").read_text() == "old"


def test_a_label_map_is_whole_or_the_old_one(tmp_path, monkeypatch):
    write_label_map(tmp_path / "x.png", np.ones((2, 2), np.uint8))

    def full(image, path, *args, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(DataError, match=r"x\.png: cannot be written \(No space left on device\)"):
        write_label_map(tmp_path / "x.png", np.zeros((2, 2), np.uint8))
    assert read_label_map(tmp_path / "x.png").all() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("write", [write_text, lambda text, path: write_checkpoint({"model": text}, path)])
def test_a_place_that_cannot_be_written_is_named(write, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/below/x: cannot be written \(Not a directory\)"):
        write("x", tmp_path / "file" / "below" / "x")


def test_other_files_that_the_block_opens_are_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "x"):
        (tmp_path / "elsewhere").read_text()
