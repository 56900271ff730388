"""docs/own-data.md, executed: the practice run as it stands there, on labels of three tools."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import projects
from vis_core.cli.main import app
from vis_core.config import merge_config

from detectron2.data import DatasetCatalog, MetadataCatalog  # isort: skip  (importable once vis_core is)

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
LABELLED_AS = ["labelme", "davis", "cvat"]
# Iterations of a test that everybody waits for.
FEW = ["SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]

CONFIGS: dict[str, str] = dict(re.findall(r'```yaml title="(.*?)"\n(.*?)```', GUIDE, re.DOTALL))
# Of models made for larger frames.
SMALL = """
INPUT.CROP.ENABLED False INPUT.MIN_SIZE_TRAIN (64,) INPUT.MAX_SIZE_TRAIN 96 INPUT.MIN_SIZE_TEST 64
INPUT.MAX_SIZE_TEST 96 INPUT.PSEUDO.MIN_SIZE_TRAIN (64,) INPUT.PSEUDO.MAX_SIZE_TRAIN 96
SOLVER.IMS_PER_BATCH 1 SOLVER.STEPS () SOLVER.WARMUP_ITERS 0
"""

_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(markdown: str) -> list[tuple[list[str], str]]:
    """(words, text that a here-document gives it) of every command."""
    found = []
    for block in _BLOCK.findall(markdown):
        lines = iter(block.splitlines())
        for line in lines:
            words = shlex.split(line, comments=True)
            text = ""
            if words and words[-1].startswith("<<"):
                end = words.pop().removeprefix("<<")
                body = []
                for inner in lines:
                    if inner == end:
                        break
                    body.append(inner + "\n")
                text = "".join(body)
            if words:
                found.append((words, text))
    return found


def follow(markdown: str, folder: Path, vis: Callable[[list[str]], None]) -> list[tuple[str, float, float]]:
    """Do what the guide says in ``folder``; ``vis`` runs the command of that name.

    Returns (command, seconds, processor seconds of the processes it started).
    """
    times = []
    for words, text in commands(markdown):
        start, used = time.perf_counter(), processor_time()
        if words[0] == "mkdir":
            (folder / words[1]).mkdir()
        elif words[:2] == ["cat", ">"]:
            (folder / words[2]).write_text(text)
        elif words[0] == "vis":
            vis(words[1:])
        else:
            raise AssertionError(f"the guide has a command that this test does not know: {words}")
        times.append((" ".join(words), time.perf_counter() - start, processor_time() - used))
    return times


def processor_time() -> float:
    """Seconds that finished child processes have computed: other work on the machine does not count."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout to the guide."""
    for name in ("configs", "projects"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    before = set(DatasetCatalog.list())
    yield tmp_path
    for name in set(DatasetCatalog.list()) - before:  # the next test has other data under these names
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def labelled_as(form: str) -> str:
    """The guide with its labels in another form."""
    text = GUIDE.replace("--to labelme", f"--to {form}")
    if form == "davis":  # keeps frames in a folder of their own
        text = re.sub(r"(--frames |FRAMES: )practice/labels", r"\1practice/labels/JPEGImages", text)
        text = text.replace("vis predict practice/labels/", "vis predict practice/labels/JPEGImages/")
    return text


def check_results(folder: Path) -> dict:
    made = json.loads((folder / "made" / "instances.json").read_text())
    converted = json.loads((folder / "all.json").read_text())
    assert [entry["name"] for entry in converted["categories"]] == [entry["name"] for entry in made["categories"]]
    assert len(converted["annotations"]) == len(made["annotations"])
    parts = [json.loads((folder / name).read_text())["videos"] for name in ("train.json", "val.json")]
    assert [len(part) for part in parts] == [2, 1]
    for name in ("report.html", "gallery.html", "stats.html"):
        assert "<html" in (folder / name).read_text()
    assert "data:image/jpeg" in (folder / "report.html").read_text(), "the report found the frames"
    assert (folder / "prediction" / "overlay.mp4").stat().st_size > 0
    last = (folder / "run" / "metrics.json").read_text().splitlines()[-1]
    return json.loads(last)


@pytest.mark.parametrize("form", LABELLED_AS)
def test_the_practice_run_in_few_iterations(form, checkout):
    def vis(words):
        status = app(words + (FEW if words[0] == "train" else []), standalone_mode=False)
        assert not status, words

    follow(labelled_as(form), checkout, vis)
    assert check_results(checkout / "practice")["segm/AP"] > 10, "the given weights know such shapes"


@pytest.mark.slow
@pytest.mark.parametrize("form", LABELLED_AS)
def test_the_practice_run_as_it_stands(form, checkout, record_property):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def vis(words):
        subprocess.run([sys.executable, "-W", "ignore", "-m", "vis_core.cli.main", *words], check=True, env=environment)

    for command, seconds, computed in follow(labelled_as(form), checkout, vis):
        print(f"{form}: {seconds:6.1f} s, computing {computed:6.1f} s  {command}")
        record_property(command, seconds)
    # Of one unseen video; that the training changed something for the better shows in the loss.
    assert check_results(checkout / "practice")["segm/AP"] > 10
    rows = [json.loads(line) for line in (checkout / "practice" / "run" / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert losses[-1] < losses[0]


def test_the_guide_shows_every_command_of_vis_data():
    named = set(re.findall(r"vis data (\w+)", GUIDE))
    assert named == {"convert", "check", "stats", "browse", "split", "shapes", "frames"}
    assert any(words[:2] == ["vis", "train"] for words, _ in commands(GUIDE))


def test_the_configs_shown_are_short_and_valid(checkout):
    (checkout / "my").mkdir()
    files = {
        entry["weights"]
        for path in ROOT.glob("projects/*/models.yaml")
        for entry in yaml.safe_load(path.open()).values()
    }
    known = {f"weights/{name}" for name in files}
    assert len(CONFIGS) == 5
    for title, text in CONFIGS.items():
        assert len(text.splitlines()) <= 11, title
        (checkout / title).write_text(text)
        cfg = merge_config(projects.default_config(), checkout / title)
        assert cfg.DATASETS.TRAIN == ("my_train",) and cfg.DATASETS.TEST == ("my_val",)
        assert [entry["NAME"] for entry in cfg.DATASETS.CUSTOM] == ["my_train", "my_val"]
        assert cfg.MODEL.WEIGHTS in known, "vis model knows the weights that the guide names, or the guide trains them"
        assert f"{cfg.OUTPUT_DIR}.yaml" == title
        known.add(f"{cfg.OUTPUT_DIR}/model_final.pth")


@pytest.mark.slow
def test_the_configs_shown_train_two_classes(checkout):
    """In their order, without the weights to begin with, which are not here."""
    (checkout / "my").mkdir()
    shapes = ["data", "shapes", "made", "--videos", "2", "--length", "10", "--height", "64", "--width", "96"]
    assert not app(shapes, standalone_mode=False)
    labels = json.loads((checkout / "made" / "instances.json").read_text())
    labels["categories"] = labels["categories"][:2]
    for annotation in labels["annotations"]:
        annotation["category_id"] = labels["categories"][annotation["category_id"] % 2]["id"]
    for name in ("train", "val"):
        (checkout / "my" / f"{name}.json").write_text(json.dumps(labels))
    (checkout / "my" / "frames").symlink_to(checkout / "made" / "JPEGImages")
    few = [*FEW, *SMALL.split()]
    for title, text in CONFIGS.items():
        (checkout / title).write_text(text)
        fresh = ["MODEL.WEIGHTS", ""] if "WEIGHTS: weights/" in text else []
        assert not app(["train", "--config-file", title, *few, *fresh], standalone_mode=False), title
        assert (checkout / title).with_suffix("").joinpath("model_final.pth").is_file()
