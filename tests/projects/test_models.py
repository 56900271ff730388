"""The models that can be called by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import projects
from projects.models import CONFIGS
from vis_core.errors import CheckpointError, ConfigError


@pytest.mark.parametrize("alias", projects.known_models())
def test_every_alias_has_a_config_that_merges(alias):
    model = projects.find_model(alias)
    assert alias == model.alias and model.config().MODEL.META_ARCHITECTURE
    assert model.weights.endswith((".pth", ".pkl")) and "/" not in model.weights
    assert len(model.sha256) in (0, 64)


def test_every_shipped_config_has_an_alias_where_a_method_lists_its_models():
    listed = {model.config_name for model in projects.known_models().values()}
    assert len(listed) == len(projects.known_models())
    for method in {model.method for model in projects.known_models().values()}:
        files = {f"{method}/{f.name}" for f in (CONFIGS / method).glob("*.yaml") if not f.name.startswith("base_")}
        assert files <= listed, f"projects/{method}/models.yaml"


def test_weights_are_shared_only_where_that_is_said():
    by_file = {}
    for model in projects.known_models().values():
        by_file.setdefault(model.weights, []).append(model)
    for models in by_file.values():
        assert len(models) == 1 or all("weights of" in model.note for model in models[1:]), models


def test_missing_weights_say_where_they_can_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path))
    published = projects.find_model("ctvis-r50-ytvis19")
    with pytest.raises(CheckpointError, match=r"no weights at .*ctvis_r50_ytvis19.pth; published by KainingYing/CTVIS"):
        published.weights_file()
    with pytest.raises(CheckpointError, match="nobody has published any: train them with vis train --model"):
        projects.find_model("ctvis-swint-ovis").weights_file()
    (tmp_path / "ctvis_r50_ytvis19.pth").write_bytes(b"")
    assert published.weights_file() == tmp_path / "ctvis_r50_ytvis19.pth"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown model 'ctvis-r50-ytvis9' \(did you mean .*ctvis-r50-ytvis19.*\?\)"):
        projects.find_model("ctvis-r50-ytvis9")


GOOD = "{config: a.yaml, weights: a.pth}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {config: a.yaml}", "a/models.yaml: entry a: missing 'weights'"),
        ("a: {weights: a.pth}", "entry a: missing 'config'"),
        ("a: {config: a.yaml, weights: a.pth, size: 3}", r"entry a: unknown field 'size' \(allowed: config, weights, "),
        (f"taken: {GOOD}", "b/models.yaml: entry taken: alias is defined twice"),
    ],
)
def test_faulty_lists_of_models(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr("projects.models.FOLDER", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "models.yaml").write_text(f"taken: {GOOD}" if "taken" in text else text)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "models.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        projects.known_models.__wrapped__()


@pytest.mark.slow
def test_configs_lists_and_weights_are_installed(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("vis_core", "projects", "configs"):
        shutil.copytree(CONFIGS.parent / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CONFIGS.parent / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    subprocess.run(pip, check=True)
    code = "import projects; m = projects.find_model('ctvis-tiny-shapesvis'); m.config(); print(m.find_weights())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        stdout=subprocess.PIPE,
    )
    assert Path(done.stdout.decode().strip()) == target / "projects" / "ctvis" / "weights" / "shapesvis_tiny.pth"
