"""Starting ``vis``: what does not compute does not wait for PyTorch, and nothing is said that no user can act upon."""

import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vis_core
import vis_core.cli.quiet
from vis_core.cli.main import COMMANDS, app, load

ROOT = Path(__file__).resolve().parents[2]
TELL = (
    "import sys; from vis_core.cli.main import main\n"
    "try: main()\n"
    "finally: print(sorted({'torch', 'detectron2'} & set(sys.modules)), file=sys.stderr)"
)


def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["bench"], ["predit"], ["evaluate", "results.json", "--gt", "gt.json", "--json"]],
    ids=" ".join,
)
def test_light_commands_do_not_import_torch(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    track = {"video_id": 1, "category_id": 1, "segmentations": [{"size": [2, 2], "counts": "04"}]}
    video = {"id": 1, "height": 2, "width": 2, "length": 1, "file_names": ["a/0.jpg"]}
    annotation = {"id": 1, "iscrowd": 0, "areas": [4], "bboxes": [[0, 0, 2, 2]], **track}
    gt = {"videos": [video], "categories": [{"id": 1, "name": "a"}], "annotations": [annotation]}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps([{"score": 0.5, **track}]))
    done = run("-c", TELL, *words)
    assert done.returncode == (2 if words == ["predit"] else 0), done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    if words[0] == "evaluate":
        assert json.loads(done.stdout)["tube_mask"]["stats"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_commands_say(name):
    """The list's texts stand apart from the commands, which it does not import: the two must not drift apart."""
    command = load(name)
    first = " ".join(command.help.split("Example:")[0].split())
    assert COMMANDS[name] == first
    listed = CliRunner().invoke(app, ["--help"]).output
    assert f"│ {name} " in listed


def test_the_models_names_are_not_cut_short():
    import projects

    lines = [line.rstrip() for line in CliRunner().invoke(app, ["model", "list"]).output.splitlines()]
    assert [line.split()[0] for line in lines[1:]] == list(projects.known_models())
    for line, model in zip(lines[1:], projects.known_models().values(), strict=True):
        assert line.split()[1] == model.config_name and line.endswith(model.note)


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"vis-core {vis_core.__version__}\n")


@pytest.mark.parametrize("command", [["-m", "vis_core.cli.main", "env"], [str(ROOT / "train_net.py"), "--help"]])
def test_nothing_is_said_of_scripting(command):
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_warnings_are_still_shown():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        importlib.reload(vis_core.cli.quiet)

        def warn(name, module):
            warnings.warn_explicit(f"`torch.jit.{name}` is deprecated.", FutureWarning, "x.py", 1, module=module)

        warn("script", "torch.jit._script")
        assert not seen
        warn("script", "somebody.else")
        warn("trace", "torch.jit._script")
        assert len(seen) == 2
