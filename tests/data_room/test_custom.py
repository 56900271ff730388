"""DATASETS.CUSTOM: own data from a config alone."""

import json

import pytest

import projects
from vis_core.config import merge_config
from vis_core.data import build_test_loader, build_train_loader, register_custom
from vis_core.data.shapes import ShapesConfig, generate_shapes
from vis_core.errors import ConfigError

from detectron2.data import MetadataCatalog  # isort: skip  (importable once vis_core is)


def config_with(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    return merge_config(projects.default_config(), tmp_path / "run.yaml")


def test_loaders_find_the_data_and_its_classes(tmp_path):
    json_file, frames = generate_shapes(tmp_path, ShapesConfig(num_videos=2, length=3, height=64, width=96))
    cfg = config_with(
        tmp_path,
        "DATASETS:\n"
        f"  CUSTOM: [{{NAME: custom_test_fish, JSON: {json_file}, FRAMES: {frames}}}]\n"
        "  TRAIN: [custom_test_fish]\n  TEST: [custom_test_fish]\n"
        "SOLVER: {IMS_PER_BATCH: 1}\nDATALOADER: {NUM_WORKERS: 0}\n",
    )
    assert len(build_test_loader(cfg, "custom_test_fish")) == 2
    (clip,) = next(iter(build_train_loader(cfg)))
    assert clip["image"][0].shape[0] == 3
    names = [entry["name"] for entry in json.loads(json_file.read_text())["categories"]]
    assert MetadataCatalog.get("custom_test_fish").thing_classes == names
    register_custom(cfg)  # again: nothing happens
    assert merge_config(projects.default_config(), None, []).DATASETS.CUSTOM == []
    assert "custom_test_fish" in cfg.dump(), "a run's config file tells its data"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{NAME: a, JSON: b}",
            "expected {NAME: ..., JSON: ..., FRAMES: ...}, found {'NAME': 'a', 'JSON': 'b'}",
        ),
        ("{NAME: a, JSON: b, FRAMES: c, ROOT: d}", "entry 1: expected {NAME"),
        ("text", "entry 1: expected {NAME"),
        ("{NAME: a, JSON: 3, FRAMES: c}", "entry 1: NAME, JSON and FRAMES have to be texts"),
        ("{NAME: ytvis_2019_train, JSON: b, FRAMES: c}", "'ytvis_2019_train' already; choose another NAME"),
    ],
)
def test_mistakes_are_named(entry, message, tmp_path):
    cfg = config_with(tmp_path, f"DATASETS: {{CUSTOM: [{entry}]}}")
    with pytest.raises(ConfigError) as error:
        register_custom(cfg)
    assert message in str(error.value) and "DATASETS.CUSTOM" in str(error.value)
