import json
from pathlib import Path

import numpy as np
import pytest

from vis_core.errors import DataError
from vis_core.evaluation import evaluate_tracks

FOLDER = Path(__file__).resolve().parents[1] / "data" / "fixtures" / "evaluation" / "medium"


def test_processes_change_nothing():
    """From files (which the workers open) and from parsed lists (which are sent to them)."""
    parsed = json.loads((FOLDER / "gt.json").read_text()), json.loads((FOLDER / "results.json").read_text())
    expected = evaluate_tracks(*parsed)
    for source in ((FOLDER / "gt.json", FOLDER / "results.json"), parsed):
        metrics = evaluate_tracks(*source, workers=2)
        for name in ("precision", "recall", "scores"):
            np.testing.assert_array_equal(getattr(metrics, name), getattr(expected, name))
        assert metrics.stats == expected.stats and metrics.notes == expected.notes


def test_errors_come_back_from_workers():
    results = json.loads((FOLDER / "results.json").read_text())
    results[-1]["segmentations"] = results[-1]["segmentations"][:-1]
    with pytest.raises(DataError, match=f"entry {len(results) - 1}"):
        evaluate_tracks(FOLDER / "gt.json", results, workers=2)
