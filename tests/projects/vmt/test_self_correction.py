import copy
import json
import sys

import numpy as np
import pytest
import torch

import projects  # noqa: F401
from projects.vmt import self_correction
from projects.vmt.self_correction import FIELD, best_pairs, corrected, tube_ious
from vis_core.data import register_ytvis
from vis_core.errors import DataError
from vis_core.tube import decode_mask, encode_masks

from detectron2.data import DatasetCatalog  # isort: skip  (importable once vis_core is)

SIZE = (20, 30)


def square(left: int, side: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5 : 5 + side, left : left + side] = True
    return mask


def rles(masks) -> list:
    return [None if mask is None else encode_masks(torch.from_numpy(mask)[None])[0] for mask in masks]


def annotation(number: int, masks, category: int = 1) -> dict:
    return {"id": number, "video_id": 7, "category_id": category, "iscrowd": 0, "segmentations": rles(masks)}


def prediction(masks, category: int = 1, score: float = 0.9) -> dict:
    return {"video_id": 7, "category_id": category, "score": score, "segmentations": rles(masks)}


@pytest.fixture
def data() -> dict:
    video = {"id": 7, "height": SIZE[0], "width": SIZE[1], "length": 3, "file_names": ["a", "b", "c"]}
    tracks = [annotation(1, [square(2), square(3), None]), annotation(2, [square(16), square(17), square(18)])]
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    return {"videos": [video], "categories": categories, "annotations": tracks}


def masks_of(annotation: dict) -> list:
    return [None if mask is None else decode_mask(mask) for mask in annotation[FIELD]]


def test_agreeing_predictions_replace_masks(data):
    before = copy.deepcopy(data)
    better = [square(2, 11), None, square(2)]
    result, count = corrected(data, [prediction(better)], threshold=0.3)
    assert count == 1 and data == before
    first, second = (masks_of(x) for x in result["annotations"])
    assert np.array_equal(first[0], square(2, 11))
    assert np.array_equal(first[1], square(3))  # the prediction has nothing there
    assert first[2] is None  # the annotator saw nothing there
    assert all(np.array_equal(a, b) for a, b in zip(second, [square(16), square(17), square(18)]))
    assert [x["segmentations"] for x in result["annotations"]] == [x["segmentations"] for x in data["annotations"]]


def test_predictions_that_disagree_or_are_of_another_class_do_not(data):
    off = [square(9), square(10), None]
    right = [square(2), square(3), None]
    result, count = corrected(data, [prediction(off), prediction(right, category=2)])
    assert count == 0
    assert result["annotations"][0][FIELD] == data["annotations"][0]["segmentations"]


def test_one_prediction_serves_one_track():
    ious = np.array([[0.95, 0.9], [0.88, 0.2]])
    assert best_pairs(ious, 0.85) == {0: 0}
    assert best_pairs(ious, 0.1) == {0: 0, 1: 1}
    assert best_pairs(np.zeros((0, 2)), 0.1) == {}


def test_tube_iou_pools_pixels():
    track = rles([square(0), None, square(0)])
    other = rles([square(0), square(0), None])
    assert tube_ious([other], [track])[0, 0] == pytest.approx(1 / 3)


def test_polygons_and_runs_are_annotations_too(data):
    track = data["annotations"][0]
    track["segmentations"] = [[[2, 5, 12, 5, 12, 15, 2, 15]], {"size": list(SIZE), "counts": [65, 10, 525]}, None]
    first, _ = corrected(data, [])[0]["annotations"]
    areas = [None if mask is None else int(mask.sum()) for mask in masks_of(first)]
    assert areas == [100, 10, None]


def test_wrong_length(data):
    with pytest.raises(DataError, match="video 7: a prediction has not 3 frames"):
        corrected(data, [prediction([square(2)])])


def test_masks_that_cannot_be_used(data):
    broken = prediction([square(2), square(3), None])
    broken["segmentations"][1] = {"size": list(SIZE), "counts": "x"}
    with pytest.raises(DataError, match="results: entry 1, field 'segmentations': counts"):
        corrected(data, [prediction([square(2), square(3), None]), broken])


def test_empty_masks_are_none(data):
    empty = np.zeros(SIZE, bool)
    data["annotations"][0]["segmentations"] = rles([square(2), square(3), empty])
    result, count = corrected(data, [prediction([square(2), empty, square(4)])], threshold=0.3)
    first, second, third = masks_of(result["annotations"][0])
    assert count == 1 and third is None
    assert np.array_equal(first, square(2)) and np.array_equal(second, square(3))


def test_command(data, tmp_path, monkeypatch, capsys):
    source, results, output = (tmp_path / name for name in ("train.json", "results.json", "corrected.json"))
    source.write_text(json.dumps(data))
    results.write_text(json.dumps([prediction([square(2), square(3, 9), None])]))
    monkeypatch.setattr(sys, "argv", ["self_correction", str(source), str(results), str(output), "--threshold", "0.8"])
    self_correction.main()
    assert "1 of 2 tracks" in capsys.readouterr().out
    register_ytvis("self_corrected", output, tmp_path, mask_field=FIELD)
    (record,) = DatasetCatalog.get("self_corrected")
    shown = {obj["id"]: obj for obj in record["annotations"][1]}
    assert decode_mask(shown[1]["segmentation"]).sum() == 81
    broken = prediction([square(2), square(3), None])
    del broken["video_id"]
    for text, message in (("no json", "not a json list of objects"), (json.dumps([broken]), "no integer 'video_id'")):
        results.write_text(text)
        with pytest.raises(DataError, match=rf"results\.json: .*{message}"):
            self_correction.main()
