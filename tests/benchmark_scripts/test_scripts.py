"""Benchmark scripts run through, on frames of stamp size. (The evaluator's: tests/evaluation/test_benchmark.py.)"""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SIZE = ["--height", "64", "--width", "96"]
ARGUMENTS = {
    "ctvis_inference": [*SIZE, "--frames", "1", "--repeat", "1", "--seeds", "1", "--videos", "1", "--memory", "2", "3"],
    "msda": [*SIZE, "--repeat", "1"],
    "roi_align": ["--boxes", "4", "--channels", "8", "--repeat", "1"],
    "seq_mask_rcnn_inference": [*SIZE, "--frames", "5", "--objects", "1", "--parts", "plain", "modes", "reduction"],
    "streaming": [*SIZE, "--frames", "12"],
    "vmt_inference": [*SIZE, "--frames", "1", "2", "--memory", "2", "3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_runs(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *ARGUMENTS[name]], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout or "of the first" in done.stdout


def test_all_are_run():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {"evaluator", *ARGUMENTS}
