from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.evaluation.hota import THRESHOLDS, count_matches, evaluate_hota
from vis_core.rle import encode_dense

NOWHERE = None


def square(column: int) -> dict:
    """A 4 x 4 square; neighbours one column apart have IoU 12 / 20."""
    mask = np.zeros((1, 8, 40), bool)
    mask[0, 2:6, column : column + 4] = True
    return {"size": [8, 40], "counts": encode_dense(mask)[0]}


def score(objects: list[list], tracks: list[list], **options):
    """HOTA of one video with one class; None or the left column of the square in each frame."""
    length = len((objects or tracks)[0])

    def tubes(rows):
        return [[None if column is None else square(column) for column in row] for row in rows]

    gt = {
        "videos": [{"id": 1, "height": 8, "width": 40, "length": length}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": n, "video_id": 1, "category_id": 1, "segmentations": tube} for n, tube in enumerate(tubes(objects))
        ],
    }
    results = [{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": tube} for tube in tubes(tracks)]
    return evaluate_hota(gt, results, **options)


def test_perfect():
    summary = score([[0] * 6, [20] * 6], [[20] * 6, [0] * 6]).mean.summary()
    assert set(summary.values()) == {1.0}


def test_a_track_that_breaks_in_two():
    """Detection is perfect; each match shares its object with as many matches of the other half."""
    summary = score([[0] * 10], [[0] * 5 + [None] * 5, [None] * 5 + [0] * 5]).mean.summary()
    assert summary["DetA"] == 1 and summary["AssA"] == pytest.approx(0.5)
    assert summary["AssPr"] == 1 and summary["AssRe"] == pytest.approx(0.5)
    assert summary["HOTA"] == pytest.approx(0.5**0.5)


def test_two_tracks_that_swap_their_objects():
    """TPA 5, FNA 5, FPA 5 for every match."""
    objects = [[0] * 10, [20] * 10]
    summary = score(objects, [[0] * 5 + [20] * 5, [20] * 5 + [0] * 5]).mean.summary()
    assert summary["DetA"] == 1 and summary["AssA"] == pytest.approx(1 / 3)


def test_misses_and_false_positives():
    metrics = score([[0] * 4, [20] * 4], [[0] * 4, [30] * 4]).mean
    assert metrics.summary()["DetA"] == pytest.approx(4 / 12)
    assert metrics.summary()["DetRe"] == metrics.summary()["DetPr"] == pytest.approx(0.5)
    assert metrics.summary()["AssA"] == 1


def test_an_inexact_track_counts_up_to_its_iou():
    metrics = score([[0] * 3], [[1] * 3]).mean
    np.testing.assert_array_equal(metrics.hota, (THRESHOLDS < 0.61).astype(float))
    assert metrics.loca[0] == pytest.approx(0.6) and metrics.loca[-1] == 1


def test_nothing_found_and_nothing_there():
    assert score([[0] * 3], []).mean.summary()["HOTA"] == 0
    assert score([], [[0] * 3]).mean.summary()["HOTA"] == 0
    assert score([[0] * 3], [[0] * 3], min_score=0.6).mean.summary()["HOTA"] == 0


def test_classes_are_averaged_or_pooled():
    gt = {
        "videos": [{"id": 1, "height": 8, "width": 40, "length": 1}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "absent"}],
        "annotations": [
            {"id": n, "video_id": 1, "category_id": c, "segmentations": [square(10 * n)]}
            for n, c in enumerate((1, 1, 1, 2))
        ],
    }
    results = [{"video_id": 1, "category_id": 1, "score": 1, "segmentations": [square(10 * n)]} for n in range(3)]
    metrics = evaluate_hota(gt, results)
    assert list(metrics.classes) == [1, 2]
    assert metrics.mean.summary()["DetA"] == pytest.approx(0.5)
    assert metrics.pooled.summary()["DetA"] == pytest.approx(0.75)
    gt["annotations"][3]["iscrowd"] = 1
    assert evaluate_hota(gt, results).mean.summary()["HOTA"] == 1


def literal(ious, d_present, g_present, threshold):
    """TP, FN, FP and the matches' association accuracies, by the words of the paper; assignments by trying them all."""
    frames, tracks, objects = ious.shape
    soft = np.zeros((tracks, objects))
    for t in range(frames):
        for d in range(tracks):
            for g in range(objects):
                if ious[t, d, g] > 0:
                    soft[d, g] += ious[t, d, g] / (ious[t, d].sum() + ious[t, :, g].sum() - ious[t, d, g])
    alignment = soft / np.maximum(1, d_present.sum(1)[:, None] + g_present.sum(1)[None] - soft)
    found = []
    for t in range(frames):
        value = ious[t] * alignment
        slots = list(range(objects)) + [None] * tracks
        best = max(
            set(permutations(slots, tracks)),
            key=lambda choice: sum(value[d, g] for d, g in enumerate(choice) if g is not None),
        )
        found += [(t, d, g) for d, g in enumerate(best) if g is not None and ious[t, d, g] >= threshold - 1e-12]
    tp = len(found)
    accuracies = []
    for _, d, g in found:
        tpa = sum((e, h) == (d, g) for _, e, h in found)
        fna, fpa = g_present[g].sum() - tpa, d_present[d].sum() - tpa
        accuracies.append(tpa / (tpa + fna + fpa))
    return tp, g_present.sum() - tp, d_present.sum() - tp, sum(accuracies)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_equals_the_literal_reading(seed, frames, tracks, objects):
    rng = np.random.default_rng(seed)
    ious = rng.random((frames, tracks, objects)) * (rng.random((frames, tracks, objects)) < 0.7)
    d_present = np.moveaxis(ious.any(axis=2), 0, 1) | (rng.random((tracks, frames)) < 0.5)
    g_present = np.moveaxis(ious.any(axis=1), 0, 1) | (rng.random((objects, frames)) < 0.5)
    counts = count_matches(ious, d_present, g_present)
    for a in (0, 6, 13):
        expected = literal(ious, d_present, g_present, THRESHOLDS[a])
        ours = counts.tp[a], counts.fn[a], counts.fp[a], counts.accuracy[a]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
