"""Typical mistakes, each answered by one line: the table of docs/troubleshooting.md, row by row."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_config import CONFIG, OPTIONS, small_config

import projects
from vis_core.cli import main as cli
from vis_core.config import merge_config
from vis_core.engine import VideoTrainer
from vis_core.visualization.video_writer import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"\| `vis ([^`]*)` \| `error: ([^`]*)` \|")
MISTAKES = ROW.findall((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that the table's commands name, right and wrong."""
    path = tmp_path_factory.mktemp("mistakes")
    torch.manual_seed(0)
    model = VideoTrainer.build_model(small_config(path / "data", path))
    torch.save({"model": model.state_dict()}, path / "mine.pth")
    (path / "cut.pth").write_bytes((path / "mine.pth").read_bytes()[:5000])
    other = merge_config(projects.default_config(), ROOT / "configs" / "ctvis" / "shapesvis_tiny.yaml")
    other.MODEL.DEVICE = "cpu"
    torch.save({"model": VideoTrainer.build_model(other).state_dict()}, path / "ctvis.pth")

    nested: dict = {}
    for key, value in OPTIONS.items():
        if not key.startswith("DATASETS"):
            node = nested
            *parents, leaf = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    two = {"NAME": "two_classes", "JSON": str(path / "two.json"), "FRAMES": str(path)}
    nested["DATASETS"] = {"CUSTOM": [two]}
    (path / "my.yaml").write_text(json.dumps({"_BASE_": str(CONFIG), **nested}))
    with VideoWriter(path / "my.mp4", fps=10) as writer:
        for _ in range(3):
            writer.write(np.full((64, 96, 3), 90, np.uint8))
    (path / "notes").mkdir()
    (path / "notes" / "readme.txt").write_text("no pictures here")
    (path / "damaged").mkdir()
    cv2.imwrite(str(path / "damaged" / "0.jpg"), np.full((64, 96, 3), 90, np.uint8))
    (path / "damaged" / "1.jpg").write_text("no picture")
    (path / "frames").mkdir()
    (path / "frames" / "0.jpg").write_bytes((path / "damaged" / "0.jpg").read_bytes())
    (path / "empty.yaml").write_text("")
    (path / "loop.yaml").write_text("_BASE_: loop.yaml")
    (path / "broken.mp4").write_bytes((path / "my.mp4").read_bytes()[:-20])
    coco = {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1}], "categories": [{"id": 1, "name": "a"}]}
    (path / "coco.json").write_text(json.dumps(coco))
    video = {"id": 1, "height": 2, "width": 2, "length": 3, "file_names": ["a/0.jpg", "a/1.jpg", "a/2.jpg"]}
    track = {"video_id": 1, "category_id": 1, "segmentations": [{"size": [2, 2], "counts": "04"}, None, None]}
    gt = {"videos": [video], "categories": coco["categories"], "annotations": [{"id": 1, **track}]}
    (path / "gt.json").write_text(json.dumps(gt))
    two_categories = [*coco["categories"], {"id": 2, "name": "b"}]
    (path / "two.json").write_text(json.dumps({**gt, "categories": two_categories}))
    (path / "results.json").write_text(json.dumps([{"score": 0.5, **track}]))
    (path / "others.json").write_text(json.dumps([{"score": 0.5, **track, "video_id": 7}]))
    short_track = {"id": 1, **track, "segmentations": [None] * 2}
    (path / "short_track.json").write_text(json.dumps({**gt, "annotations": [short_track]}))
    (path / "short.json").write_text(json.dumps([{"score": 0.5, **track, "segmentations": [None] * 2}]))
    return path


def test_the_table_is_there():
    assert len(MISTAKES) >= 15
    assert len(set(MISTAKES)) == len(MISTAKES)


@pytest.mark.parametrize(("command", "answer"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_the_answer_is_one_line(command, answer, folder, monkeypatch, capsys):
    if "--device cuda" in command and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(folder)
    (folder / "configs").exists() or (folder / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))
    if command.startswith("train"):  # sets up loggers of its own
        line = [sys.executable, "-W", "ignore", "-m", "vis_core.cli.main", *shlex.split(command)]
        done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        status, text = done.returncode, done.stderr
    else:
        monkeypatch.setattr(sys, "argv", ["vis", *shlex.split(command)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        status, text = stop.value.code, capsys.readouterr().err
    assert status == 2
    said = [line for line in text.splitlines() if line]
    assert len(said) == 1, said
    # An ellipsis of the table stands for anything.
    expected = ".*".join(re.escape(part) for part in f"error: {answer}".split("…"))
    assert re.fullmatch(expected, said[0].replace(str(folder) + "/", "").replace(str(ROOT) + "/", "")), said[0]
