import json
from pathlib import Path

import numpy as np
import pytest

from vis_core.evaluation import evaluate_tracks
from vis_core.evaluation.diagnosis import KINDS, diagnose
from vis_core.rle import encode_dense

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures" / "evaluation"
SETS = ("small", "medium", "over100", "ties_crowd", "ovis_occ")


def square(column, row: int = 2):
    if column is None:
        return None
    mask = np.zeros((1, 12, 60), bool)
    mask[0, row : row + 4, column : column + 4] = True
    return {"size": [12, 60], "counts": encode_dense(mask)[0]}


def run(objects: list[tuple], tracks: list[tuple], **options):
    """(class, columns per frame) of objects and (class, score, columns per frame) of tracks; all in one video."""
    gt = {
        "videos": [{"id": 1, "height": 12, "width": 60, "length": len(objects[0][1])}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": n, "video_id": 1, "category_id": category, "segmentations": [square(c) for c in columns]}
            for n, (category, columns) in enumerate(objects)
        ],
    }
    results = [
        {"video_id": 1, "category_id": category, "score": score, "segmentations": [square(c) for c in columns]}
        for category, score, columns in tracks
    ]
    return diagnose(gt, results, **options)


def kinds(diagnosis) -> list[str]:
    return [track.kind for track in diagnosis.tracks]


def test_each_kind_of_error():
    objects = [(1, [0] * 4), (1, [10] * 4), (1, [20] * 4), (2, [30] * 4), (2, [40] * 4)]
    tracks = [
        (1, 0.9, [0] * 4),  # right
        (1, 0.8, [0] * 4),  # a second time
        (2, 0.7, [10] * 4),  # wrong class
        (1, 0.6, [22] * 4),  # two columns off: IoU 1/3
        (1, 0.5, [32] * 4),  # two columns off an object of another class
        (2, 0.4, [50] * 4),  # nothing there
    ]
    diagnosis = run(objects, tracks, min_score=0.45)
    assert kinds(diagnosis) == ["correct", "duplicate", "class", "localisation", "both", "background"]
    assert diagnosis.missed == [(1, 3, 2), (1, 4, 2)]
    assert [track.object_id for track in diagnosis.tracks] == [0, 0, 1, 2, 3, None]
    assert diagnosis.tracks[3].iou == pytest.approx(1 / 3)
    counts = diagnosis.counts()
    assert counts == dict.fromkeys(KINDS, 1) | {"association": 0, "background": 0, "missed": 2}
    np.testing.assert_array_equal(diagnosis.confusion, [[1, 1, 1], [0, 0, 2], [3, 0, 0]])


def test_losing_and_switching_objects():
    objects = [(1, [0] * 6), (1, [10] * 6)]
    lost = run(objects, [(1, 0.9, [0, 0, None, None, None, None])])
    switched = run(objects, [(1, 0.9, [0, 0, 0, 10, 10, 10])])
    loose = run(objects, [(1, 0.9, [2] * 6)])
    assert (kinds(lost), kinds(switched), kinds(loose)) == (["association"], ["association"], ["localisation"])
    assert lost.missed == [(1, 1, 1)]


@pytest.mark.parametrize("tracks", [[], [(1, 0.9, [50] * 2)]])
def test_where_everything_is_missed_that_costs_everything(tracks):
    diagnosis = run([(1, [0] * 2), (2, [10] * 2)], tracks)
    assert diagnosis.ap50 == 0
    assert diagnosis.cost == dict.fromkeys(KINDS, 0.0) | {"missed": 1.0}


def test_costs_are_what_a_repair_gains():
    # One of two objects found, below a confident duplicate: precision 1 up to recall .5.
    duplicate = run([(1, [0] * 2), (1, [10] * 2)], [(1, 0.9, [0] * 2), (1, 0.8, [0] * 2), (1, 0.7, [10] * 2)])
    assert duplicate.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert duplicate.cost["duplicate"] == pytest.approx(1 - duplicate.ap50)
    assert all(duplicate.cost[kind] == pytest.approx(0) for kind in KINDS if kind != "duplicate")
    wrong_class = run([(1, [0] * 2)], [(2, 0.9, [0] * 2)])
    assert wrong_class.ap50 == 0 and wrong_class.cost["class"] == 1
    missed = run([(1, [0] * 2), (1, [10] * 2)], [(1, 0.9, [0] * 2)])
    assert missed.cost["missed"] == pytest.approx(1 - missed.ap50) and missed.cost["class"] == 0


def test_two_repairs_of_one_object_do_not_count_twice():
    diagnosis = run([(1, [0] * 2)], [(2, 0.9, [0] * 2), (2, 0.8, [0] * 2)])
    assert kinds(diagnosis) == ["class", "class"] and diagnosis.cost["class"] == 1


@pytest.mark.parametrize("name", SETS)
def test_ap50_is_the_evaluators(name):
    gt, results = (json.loads((FIXTURES / name / f"{part}.json").read_text()) for part in ("gt", "results"))
    diagnosis = diagnose(gt, results, min_score=0.0)
    assert diagnosis.ap50 == pytest.approx(evaluate_tracks(gt, results).stats["AP50"], abs=1e-12)
    assert all(gain >= -1e-12 for gain in diagnosis.cost.values())
    crowd = {(a["video_id"], a["id"]) for a in gt["annotations"] if a["iscrowd"]}
    rows = diagnosis.confusion[:-1].sum()
    assert rows == len(gt["annotations"]) - len(crowd)
    assert not crowd & {(video, number) for video, number, _ in diagnosis.missed}


def test_only_the_chosen_videos():
    gt = json.loads((FIXTURES / "small" / "gt.json").read_text())
    results = json.loads((FIXTURES / "small" / "results.json").read_text())
    assert {track.video_id for track in diagnose(gt, results, video_ids=[2]).tracks} == {2}
