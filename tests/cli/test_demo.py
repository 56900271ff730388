"""``vis demo``: what `make demo` runs."""

import json

import pytest
from typer.testing import CliRunner

from vis_core.cli.main import app
from vis_core.data import open_video


@pytest.mark.slow
def test_demo_leaves_what_it_says(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--iterations", "2"])
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "inference" / "results.json").read_text())
    assert max(entry["score"] for entry in results) > 0.5, "the shipped weights find something"
    assert "shapesvis" in (tmp_path / "report.html").read_text()
    assert len(open_video(tmp_path / "prediction" / "overlay.mp4")) == 20
    assert "AP50" in result.output


@pytest.mark.slow
def test_demo_without_training_evaluates_the_shipped_weights(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--iterations", "0"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").is_file() and (tmp_path / "prediction" / "overlay.mp4").is_file()
    assert not list(tmp_path.glob("*.pth"))
