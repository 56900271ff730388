"""The byte order mark that Windows tools write at the start of a file changes nothing, wherever json is read."""

import codecs
import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from vis_core.cli.main import app
from vis_core.data import register_ytvis
from vis_core.data.formats import ReadOptions, read_labels, write_labels
from vis_core.errors import DataError
from vis_core.json_file import read_json
from vis_core.tube import encode_masks

from detectron2.data import DatasetCatalog, MetadataCatalog  # isort: skip  (importable once vis_core is)


@pytest.fixture
def gt(tmp_path):
    masks = encode_masks(np.ones((1, 6, 8), bool))
    videos = [{"id": 1, "height": 6, "width": 8, "length": 1, "file_names": ["a/0.jpg"]}]
    tracks = [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": masks}]
    content = {"videos": videos, "categories": [{"id": 1, "name": "cat"}], "annotations": tracks}
    (tmp_path / "gt.json").write_bytes(codecs.BOM_UTF8 + json.dumps(content).encode())
    (tmp_path / "results.json").write_bytes(codecs.BOM_UTF8 + json.dumps([{**tracks[0], "score": 0.5}]).encode())
    (tmp_path / "videos.json").write_bytes(codecs.BOM_UTF8 + b"[1]")
    return tmp_path / "gt.json"


def test_commands(gt):
    folder = gt.parent
    results = str(folder / "results.json")
    evaluated = CliRunner().invoke(
        app, ["evaluate", results, "--gt", str(gt), "--videos", str(folder / "videos.json"), "--json"]
    )
    assert json.loads(evaluated.stdout)["tube_mask"]["stats"]["AP"] == pytest.approx(100)
    assert "0 errors" in CliRunner().invoke(app, ["data", "check", str(gt)]).stdout
    assert CliRunner().invoke(app, ["submit", results, "--gt", str(gt)]).exit_code == 0
    with zipfile.ZipFile(folder / "results.zip") as archive:
        assert json.loads(archive.read("results.json").decode())[0]["score"] == 0.5


@pytest.mark.parametrize("form", ["labelme", "coco", "coco-video", "sa-v"])
def test_formats(form, gt, tmp_path):
    labels = read_labels(gt)
    out = tmp_path / ("out.json" if form.startswith("coco") else "out")
    write_labels(labels, out, form)
    for path in [out] if out.is_file() else list(out.rglob("*.json")):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_labels(out, form, ReadOptions(), None).videos[0].tracks[0].masks == labels.videos[0].tracks[0].masks


def test_training_data(gt, tmp_path):
    register_ytvis("with_a_mark", gt, tmp_path)
    try:
        assert len(DatasetCatalog.get("with_a_mark")) == 1
    finally:
        DatasetCatalog.remove("with_a_mark")
        MetadataCatalog.remove("with_a_mark")


def test_what_is_no_json_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"cut\.json: not valid json"):
        read_json(tmp_path / "cut.json")
