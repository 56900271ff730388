"""The notebook runs from the first to the last cell, as it stands, and shows what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def written() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def test_committed_without_outputs(written) -> None:
    code = [cell for cell in written.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert "ITERATIONS = " in code[0].source  # the settings come first


def test_tracks_are_found(executed) -> None:
    assert re.search(r"score 0\.[5-9]\d, seen in \d+ of 8 frames", printed(executed))


def test_pictures_before_and_after_training(executed) -> None:
    pictures = [output for cell in executed.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in picture.data for picture in pictures) == 2


def test_scores_are_those_of_a_trained_model(executed) -> None:
    scores = re.findall(r"^(\w+) +before +([\d.]+), after +([\d.]+)", printed(executed), re.MULTILINE)
    assert [name for name, *_ in scores] == ["AP", "AP50", "AR10"]
    # From nothing, so few iterations leave all of them near 0.
    assert all(float(value) > 15 for _, *values in scores for value in values)
