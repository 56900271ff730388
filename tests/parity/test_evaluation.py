"""Tube AP against the arrays and numbers of the reference evaluators (folder ``evaluation``)."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import root
from detectron2.data import MetadataCatalog

from vis_core.errors import DataError
from vis_core.evaluation import GroundTruth, Results, YTVISEvaluator, evaluate_tracks
from vis_core.evaluation.checks import Protocol
from vis_core.evaluation.video import evaluate_video
from vis_core.tube import Tube

SETS = sorted(path.parent for path in root().glob("evaluation/*/expected.json"))
EDGE_CASES = json.loads((root() / "evaluation" / "edge_cases.json").read_text())

# Where the reference errs and we do not follow it: the reference case whose numbers are right instead.
RIGHT_RESULT = {
    "gt_id_zero": "perfect",
    "gt_missing_iscrowd": "perfect",
    "gt_missing_areas": "perfect",
    "pred_uncompressed_rle": "perfect",
    "no_predictions": "all_null_prediction",
    "gt_annotations_null": "gt_annotations_empty",
}
# Evaluated as the reference does when lenient, refused by default or (the last two) when entries are checked strictly.
REFUSED = {
    "prediction_shorter",
    "prediction_longer",
    "prediction_length0",
    "one_frame_wrong_size",
    "all_frames_wrong_size",
    "gt_longer_than_video",
}
REFUSED_ENTRIES = {"unknown_category_id", "duplicate_predictions"}


def named(path):
    return path.name


def settings(expected: dict) -> dict:
    return {
        "occlusion": expected["evaluator"] == "ovis",
        "iou_type": "boundary" if "stats_segm" in expected else "segm",
    }


@pytest.fixture(params=SETS, ids=named)
def case(request):
    expected = json.loads((request.param / "expected.json").read_text())
    return request.param, expected


def test_there_are_sets():
    assert SETS and EDGE_CASES


def test_arrays_are_bit_equal(case):
    folder, expected = case
    arrays = np.load(folder / "arrays.npz")
    metrics = evaluate_tracks(folder / "gt.json", folder / "results.json", strict_lengths=False, **settings(expected))
    for name in ("precision", "recall", "scores"):
        ours, reference = getattr(metrics, name), arrays[name]
        if "stats_segm" in expected:  # boundaries
            np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, reference, err_msg=name)


@pytest.mark.slow
def test_arrays_are_bit_equal_from_two_processes(case):
    folder, expected = case
    options = {"strict_lengths": False, **settings(expected)}
    one = evaluate_tracks(folder / "gt.json", folder / "results.json", **options)
    two = evaluate_tracks(folder / "gt.json", folder / "results.json", workers=2, **options)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name), err_msg=name)


def test_statistics(case):
    folder, expected = case
    metrics = evaluate_tracks(folder / "gt.json", folder / "results.json", strict_lengths=False, **settings(expected))
    assert list(metrics.stats) == list(expected["stats"])
    np.testing.assert_allclose(list(metrics.stats.values()), expected["stats_list"], rtol=0, atol=1e-12)
    reference = expected["per_category"]
    assert metrics.category_ids == reference["category_ids"]
    for name in ("AP", "AP50", "AR100"):
        ours = [metrics.per_category[category][name] for category in metrics.category_ids]
        theirs = [np.nan if value is None else value for value in reference[name]]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12, err_msg=name)


def test_other_views_of_the_same_set(case):
    folder, expected = case
    for key, changes in (("stats_class_agnostic", {"class_agnostic": True}), ("stats_segm", {})):
        if key not in expected:
            continue
        metrics = evaluate_tracks(folder / "gt.json", folder / "results.json", strict_lengths=False, **changes)
        reference = expected[key]
        values = [reference[name] for name in metrics.stats] if isinstance(reference, dict) else reference
        np.testing.assert_allclose(list(metrics.stats.values()), values, rtol=0, atol=1e-12, err_msg=key)


def test_tube_ious_and_areas_are_bit_equal(case):
    folder, expected = case
    ground_truth, results = GroundTruth.load(folder / "gt.json"), Results.load(folder / "results.json")
    protocol = Protocol(strict_lengths=False, **settings(expected))
    outcomes = {v: evaluate_video(ground_truth, results, v, protocol) for v in ground_truth.videos}
    groups = {}
    for video_id, outcome in outcomes.items():
        cursor = 0
        for k in range(len(outcome.d_begin) - 1):
            d, g = (slice(begin[k], begin[k + 1]) for begin in (outcome.d_begin, outcome.g_begin))
            shape = (d.stop - d.start, g.stop - g.start)
            if min(shape) > 0:
                objects = outcome.objects[g]
                matrix = outcome.iou[cursor : cursor + shape[0] * shape[1]].reshape(shape)
                groups[video_id, objects[0].category_id] = ([track.id for track in objects], matrix)
            cursor += shape[0] * shape[1]
        if "dt_avg_area" in expected:
            np.testing.assert_array_equal(
                outcome.average_areas, [expected["dt_avg_area"][position] for position in outcome.positions]
            )
    for group in expected["tube_iou"]:
        gt_ids, matrix = groups.pop((group["video_id"], group["category_id"]))
        assert gt_ids == group["gt_ids"]
        np.testing.assert_array_equal(matrix, group["iou"])
    assert not groups


def test_detectron2_results(case, tmp_path, request):
    folder, expected = case
    entries = json.loads((folder / "results.json").read_text())
    if "detectron2_results_x100" not in expected or not is_regular(folder, entries):
        return  # results that no model can hand over as tubes: test_arrays_are_bit_equal has them
    ground_truth = GroundTruth.load(folder / "gt.json")
    name = f"{request.node.name}"
    MetadataCatalog.get(name).set(
        json_file=str(folder / "gt.json"),
        thing_classes=[ground_truth.categories[c] for c in ground_truth.category_ids],
        thing_dataset_id_to_contiguous_id={c: k for k, c in enumerate(ground_truth.category_ids)},
    )
    evaluator = YTVISEvaluator(name, output_dir=str(tmp_path))
    evaluator.reset()
    for video_id, video in ground_truth.videos.items():
        tubes = [
            Tube(ground_truth.category_ids.index(entry["category_id"]), entry["score"], entry["segmentations"])
            for entry in entries
            if entry["video_id"] == video_id
        ]
        known_length = {} if video.length is None else {"length": video.length}
        evaluator.process([{"video_id": video_id, **known_length}], [{"tubes": tubes}])
    scores = evaluator.evaluate()["segm"]
    reference = {k: np.nan if v is None else v for k, v in expected["detectron2_results_x100"].items()}
    if len(ground_truth.categories) == 1:  # detectron2 lists classes only where there are several
        reference = {name: value for name, value in reference.items() if not name.startswith("AP-")}
    assert scores.keys() == reference.keys()
    np.testing.assert_allclose([scores[k] for k in reference], list(reference.values()), rtol=0, atol=1e-10)
    MetadataCatalog.pop(name)


def is_regular(folder, entries) -> bool:
    try:
        evaluate_tracks(folder / "gt.json", entries, strict_entries=True)
    except DataError:
        return False
    return True


@pytest.mark.parametrize("edge", EDGE_CASES, ids=lambda edge: edge["name"])
def test_edge_case(edge):
    by_name = {case["name"]: case["reference"] for case in EDGE_CASES}
    reference = by_name[RIGHT_RESULT.get(edge["name"], edge["name"])]
    before = copy.deepcopy(edge)
    if "raises" in reference:
        with pytest.raises(DataError):
            evaluate_tracks(edge["gt"], edge["results"], strict_lengths=False)
        return
    lenient = evaluate_tracks(edge["gt"], edge["results"], strict_lengths=False)
    np.testing.assert_allclose(list(lenient.stats.values()), reference["stats"], rtol=0, atol=1e-12)
    ours = [category["AP"] for category in lenient.per_category.values()]
    theirs = [np.nan if value is None else value for value in reference["per_category_AP"]]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert edge == before, "the inputs were modified"
    refused, refused_entries = edge["name"] in REFUSED, edge["name"] in REFUSED | REFUSED_ENTRIES
    for strict_entries, is_refused in ((False, refused), (True, refused_entries)):
        if is_refused:
            with pytest.raises(DataError):
                evaluate_tracks(edge["gt"], edge["results"], strict_entries=strict_entries)
        else:
            strict = evaluate_tracks(edge["gt"], edge["results"], strict_entries=strict_entries)
            assert strict.stats == lenient.stats


def test_the_docs_name_every_edge_case():
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text()
    assert not [edge["name"] for edge in EDGE_CASES if f"| {edge['name']} |" not in page]
