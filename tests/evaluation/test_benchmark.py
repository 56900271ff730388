"""The benchmark's sets and its textbook evaluator, and that memory does not grow with a file."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.evaluator_sets import OVIS_LIKE, YTVIS_LIKE, write_set
from benchmarks.plain_evaluator import evaluate
from vis_core.evaluation import evaluate_tracks

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures" / "evaluation"
SMALL = replace(YTVIS_LIKE, videos=3, frames=(3, 6), categories=4)


def test_the_textbook_evaluator_is_right():
    for name in ("small", "ties_crowd", "over100"):
        gt, results = (json.loads((FIXTURES / name / f"{part}.json").read_text()) for part in ("gt", "results"))
        for annotation in gt["annotations"]:
            assert all(mask is None or isinstance(mask["counts"], str) for mask in annotation["segmentations"])
        expected = np.load(FIXTURES / name / "arrays.npz")
        for array, values in evaluate(gt, results).items():
            np.testing.assert_array_equal(values, expected[array])


def test_both_agree_on_the_sets(tmp_path):
    for size in (SMALL, replace(OVIS_LIKE, videos=1, frames=(5, 5), categories=3)):
        gt_file, results_file = write_set(size, tmp_path)
        metrics = evaluate_tracks(gt_file, results_file, strict_entries=True)
        assert 0 < metrics.stats["AP"] < 1
        plain = evaluate(json.loads(gt_file.read_text()), json.loads(results_file.read_text()))
        for array, values in plain.items():
            np.testing.assert_array_equal(getattr(metrics, array), values)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(videos: int) -> tuple[int, int]:
        gt_file, results_file = write_set(replace(SMALL, videos=videos, frames=(20, 20)), tmp_path / str(videos))
        evaluate_tracks(gt_file, results_file)  # compiles
        tracemalloc.start()
        evaluate_tracks(gt_file, results_file)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, results_file.stat().st_size

    (few, small), (many, large) = peak(5), peak(40)
    assert large > 6 * small
    assert many < few + 0.1 * (large - small)
