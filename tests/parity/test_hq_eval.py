"""Tube-Mask and Tube-Boundary AP against HQ-YTVIS' own evaluation package (folder ``hq_eval``)."""

import json

import numpy as np
import pytest
from conftest import root

from vis_core.evaluation import GroundTruth, Results, evaluate_tracks
from vis_core.evaluation.boundary import band_width, boundaries
from vis_core.evaluation.checks import Protocol
from vis_core.evaluation.tubes import decode_tubes
from vis_core.evaluation.video import evaluate_video
from vis_core.rle import encode_dense

FOLDER = root() / "hq_eval"
REFERENCE = json.loads((FOLDER / "stats.json").read_text())
RUNS = [
    pytest.param(predictions, run, iou_type, id=f"{predictions}-{run}")
    for predictions, runs in REFERENCE.items()
    for run, iou_type in (("tube_mask", "segm"), ("tube_boundary", "boundary"))
    if isinstance(runs, dict) and run in runs
]


@pytest.mark.parametrize("predictions, run, iou_type", RUNS)
def test_statistics(predictions, run, iou_type):
    reference = REFERENCE[predictions][run]
    metrics = evaluate_tracks(FOLDER / "gt.json", FOLDER / f"{predictions}.json", iou_type=iou_type)
    np.testing.assert_allclose(list(metrics.stats.values()), reference["stats"], rtol=0, atol=1e-12)
    per_category = [category["AP"] for category in metrics.per_category.values()]
    theirs = [np.nan if value == -1 else value for value in as_list(reference["per_category_AP"])]
    np.testing.assert_allclose(per_category, theirs, rtol=0, atol=1e-12)
    precision = metrics.precision[:, :, :, 0, -1]
    per_threshold = [values[values > -1].mean() for values in precision]
    np.testing.assert_allclose(per_threshold, as_list(reference["per_iou_AP"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("predictions, run, iou_type", RUNS)
def test_ious_used_for_matching(predictions, run, iou_type):
    reference = REFERENCE[predictions][run]
    ground_truth, results = GroundTruth.load(FOLDER / "gt.json"), Results.load(FOLDER / f"{predictions}.json")
    compared = 0
    for video_id in ground_truth.videos:
        outcome = evaluate_video(ground_truth, results, video_id, Protocol(iou_type=iou_type))
        areas = reference["pred_avg_area"]
        theirs = [areas[str(p + 1)] if isinstance(areas, dict) else areas[p] for p in outcome.positions]
        np.testing.assert_array_equal(outcome.average_areas, theirs)
        cursor = 0
        for k in range(len(outcome.d_begin) - 1):
            detections, objects = np.diff(outcome.d_begin)[k], np.diff(outcome.g_begin)[k]
            matrix = outcome.iou[cursor : cursor + detections * objects].reshape(detections, objects)
            cursor += detections * objects
            if matrix.size:
                category = outcome.objects[outcome.g_begin[k]].category_id
                np.testing.assert_array_equal(matrix, reference["ious"][f"{video_id}_{category}"])
                compared += 1
    assert compared == sum(1 for matrix in reference["ious"].values() if np.size(matrix))


def test_boundary_bands():
    arrays = np.load(FOLDER / "boundary_masks.npz")
    names = sorted(name for name in arrays.files if name.startswith("m"))
    assert names
    for name in names:
        mask, band, depth = arrays[name], arrays["b" + name[1:]], arrays["d" + name[1:]]
        assert band_width(*mask.shape) == depth
        rle = {"size": list(mask.shape), "counts": encode_dense(mask[None].astype(bool))[0]}
        tubes = boundaries(decode_tubes([[rle]], str))
        drawn = np.zeros(mask.size, np.uint8)
        for start, end in zip(tubes.starts, tubes.ends):
            drawn[start:end] = 1
        np.testing.assert_array_equal(drawn.reshape(mask.shape[::-1]).T, band)
        assert tubes.areas.tolist() == [band.sum()]


def as_list(values):
    return list(values.values()) if isinstance(values, dict) else values
