"""What is refused, with which words, and what lenient evaluation makes of it."""

import copy

import numpy as np
import pytest

from vis_core.errors import DataError
from vis_core.evaluation import GroundTruth, evaluate_splits, evaluate_tracks
from vis_core.rle import encode_dense


def rle(rows=slice(1, 5), columns=slice(1, 6), size=(8, 10)):
    mask = np.zeros((1, *size), bool)
    mask[0, rows, columns] = True
    return {"size": list(size), "counts": encode_dense(mask)[0]}


@pytest.fixture
def gt():
    return {
        "videos": [
            {"id": v, "height": 8, "width": 10, "length": 2, "file_names": [f"{v}/0.jpg", f"{v}/1.jpg"]} for v in (3, 7)
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {
                "id": 10 + v,
                "video_id": v,
                "category_id": 2,
                "iscrowd": 0,
                "areas": [20, 20],
                "segmentations": [rle(), rle()],
            }
            for v in (3, 7)
        ],
    }


@pytest.fixture
def results():
    return [{"video_id": v, "category_id": 2, "score": 0.5, "segmentations": [rle(), rle()]} for v in (3, 7)]


def test_the_untouched_set_is_perfect(gt, results):
    assert evaluate_tracks(gt, results, strict_entries=True).stats["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"segmentations": [rle()]}, "entry 1 (video 7): 1 segmentations, the video has 2 frames"),
        ({"segmentations": [rle(), rle(size=(10, 8))]}, "frame 1: mask of size [10, 8], the video has [8, 10]"),
        ({"score": float("nan")}, "entry 1 (video 7): 'score' is nan"),
        ({"score": float("inf")}, "entry 1 (video 7): 'score' is inf"),
    ],
)
def test_refused_by_default_but_not_when_lenient(gt, results, change, words):
    results[1].update(change)
    with pytest.raises(DataError) as error:
        evaluate_tracks(gt, results)
    assert words in str(error.value)
    evaluate_tracks(gt, results, strict_lengths=False)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"video_id": 4}, "video_id 4 is not in"),
        ({"video_id": "7"}, "entry 1 has no integer 'video_id'"),
        ({"category_id": None, "score": "0.5"}, "entry 1 (video 7): 'score' is '0.5'"),
        ({"segmentations": None}, "entry 1 (video 7): 'segmentations' is not a list"),
        ({"segmentations": [rle(), 5]}, "frame 1: a segmentation is neither null nor an RLE"),
        ({"segmentations": [rle(), {"size": [8, 10]}]}, "frame 1: a segmentation is neither null nor an RLE"),
        ({"segmentations": [rle(), {"counts": "0"}]}, "frame 1: 'size' is None"),
        ({"segmentations": [rle(), {"size": [8, 10], "counts": ""}]}, "frame 1: counts is empty"),
        ({"segmentations": [rle(), {"size": [8, 10], "counts": "9"}]}, "frame 1: the runs do not add up"),
        ({"segmentations": [rle(), {"size": [8, 10], "counts": 7}]}, "frame 1: 'counts' is not a list of run lengths"),
    ],
)
def test_always_refused(gt, results, change, words):
    results[1].update(change)
    for strict in (True, False):
        with pytest.raises(DataError) as error:
            evaluate_tracks(gt, results, strict_lengths=strict)
        assert words in str(error.value) and "\n" not in str(error.value)


def test_strict_entries(gt, results):
    for extra, words in (
        ({**results[1]}, "entry 2 (video 7): the same track as entry 1"),
        ({**results[1], "category_id": 99}, "entry 2 (video 7): category_id 99 is not in"),
    ):
        metrics = evaluate_tracks(gt, [*results, extra])
        assert metrics.stats["AP"] == pytest.approx(1)
        with pytest.raises(DataError) as error:
            evaluate_tracks(gt, [*results, extra], strict_entries=True)
        assert words in str(error.value)
    assert sum(metrics.notes.values()) == 1


def test_tracks_without_pixels_may_be_equal(gt, results):
    nothing = {**results[1], "score": 0.0, "segmentations": [None, {"size": [8, 10], "counts": [80]}]}
    metrics = evaluate_tracks(gt, [*results, nothing, {**nothing}], strict_entries=True)
    assert metrics.stats["AP"] == pytest.approx(1)


def test_lenient_evaluation_says_what_it_tolerated(gt, results, caplog):
    results[0]["segmentations"] = [rle()]
    results[1]["segmentations"] = [rle(), rle(size=(10, 8))]
    metrics = evaluate_tracks(gt, results, strict_lengths=False)
    assert sorted(metrics.notes.values()) == [1, 1]
    assert metrics.stats["AP"] == pytest.approx(1)  # both frames do not count
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda gt: gt.pop("videos"), "field 'videos' is missing"),
        (lambda gt: gt.pop("categories"), "field 'categories' is missing"),
        (lambda gt: gt["videos"].append(gt["videos"][0]), "the same id"),
        (lambda gt: gt["videos"][0].pop("id"), "no integer 'id'"),
        (lambda gt: gt["categories"][0].pop("id"), "no 'id'"),
        (lambda gt: gt["annotations"][0].pop("video_id"), "annotation 0 has no integer 'video_id'"),
        (lambda gt: gt["annotations"][0].update(video_id=8), "video_id 8 is not in 'videos'"),
        (lambda gt: gt["annotations"][0].pop("category_id"), "annotation 13: field 'category_id' is missing"),
        (lambda gt: gt["annotations"][0].update(category_id=9), "annotation 13: category_id 9 is not in 'categories'"),
        (lambda gt: gt["annotations"][0].update(segmentations={}), "annotation 13: 'segmentations' is not a list"),
        (lambda gt: gt["annotations"][0]["segmentations"].pop(), "has 1 entries, the video 2 frames"),
        (lambda gt: gt["annotations"][0]["segmentations"].__setitem__(0, rle(size=(9, 9))), "mask of size [9, 9]"),
        (lambda gt: gt["annotations"][0]["segmentations"].__setitem__(0, "x"), "neither null, polygons nor an RLE"),
        (lambda gt: gt["annotations"][0]["segmentations"].__setitem__(0, [[1, 2, 3, 4]]), "a polygon needs"),
        (lambda gt: gt["annotations"][0]["segmentations"].__setitem__(0, [[1, 2, 3, 4, 5, "y"]]), "a polygon needs"),
    ],
)
def test_broken_ground_truth_is_refused(gt, results, damage, words):
    damage(gt)
    with pytest.raises(DataError) as error:
        evaluate_tracks(gt, results)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_coco_ground_truth_is_recognised():
    with pytest.raises(DataError, match="looks like COCO"):
        GroundTruth.load({"images": [], "annotations": [], "categories": []})


def test_inputs_are_not_modified(gt, results):
    before = copy.deepcopy((gt, results))
    for iou_type in ("segm", "boundary"):
        evaluate_tracks(gt, results, iou_type=iou_type)
    assert (gt, results) == before


def test_refined_masks_take_the_place_of_the_others(gt, results, caplog):
    for annotation in gt["annotations"]:
        annotation["segmentations_refined"] = [rle(rows=slice(5, 8), columns=slice(7, 10))] * 2
    with caplog.at_level("INFO"):
        for iou_type in ("segm", "boundary"):
            assert evaluate_tracks(gt, results, iou_type=iou_type).stats["AP"] == 0
    assert "segmentations_refined" in caplog.text


def test_missing_and_null_fields_of_the_ground_truth(gt, results):
    for annotation in gt["annotations"]:
        del annotation["iscrowd"], annotation["areas"]
    gt["videos"][0] = {"id": 3}
    assert evaluate_tracks(gt, results).stats["APs"] == pytest.approx(1)


@pytest.mark.parametrize("value", [None, [], "missing"])
def test_no_annotations(gt, results, value):
    gt["annotations"] = value
    if value == "missing":
        del gt["annotations"]
    assert not GroundTruth.load(gt).has_annotations
    assert set(evaluate_tracks(gt, results).stats.values()) == {-1.0}


def test_no_results(gt):
    stats = evaluate_tracks(gt, []).stats
    assert stats["AP"] == stats["AR100"] == 0 and stats["APl"] == -1


def test_splits(gt, results):
    results[1]["segmentations"] = [None, None]
    metrics = evaluate_splits(gt, results, {"all": None, "S": [3], "L": [7]})
    assert metrics["S"].stats["AP"] == pytest.approx(1) and metrics["L"].stats["AP"] == 0
    assert metrics["all"].stats == evaluate_tracks(gt, results).stats
    assert metrics["S"].stats == evaluate_tracks(gt, results, video_ids=[3]).stats
    for video_ids, words in (([4], "there is no video 4"), ([], "there is no video to evaluate")):
        with pytest.raises(DataError, match=words):
            evaluate_tracks(gt, results, video_ids=video_ids)


def test_occlusion_tags(gt, results):
    for annotation, tags in zip(gt["annotations"], (["no_occlusion", "severe_occlusion"], [None, None])):
        annotation["occlusion"] = tags
    metrics = evaluate_tracks(gt, results, occlusion=True)  # scores .75 and none
    assert metrics.stats["AP"] == pytest.approx(1) and metrics.stats["APo_heavy"] == pytest.approx(1)
    assert metrics.stats["APo_light"] == metrics.stats["APo_medium"] == -1
    assert sum(metrics.notes.values()) == 1
    gt["annotations"][0]["occlusion"] = ["occluded", None]
    with pytest.raises(DataError, match="unknown tag"):
        evaluate_tracks(gt, results, occlusion=True)
