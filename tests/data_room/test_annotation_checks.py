"""Every kind of mistake in a YouTube-VIS json is found, with its place; safe repairs leave a file without it."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from vis_core.data.annotation_checks import check_annotations, repair
from vis_core.errors import DataError
from vis_core.tube import encode_masks

H, W = 12, 16


def rle(x0, y0, x1, y1):
    mask = np.zeros((1, H, W), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


def content():
    tracks = [
        {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0},
        {"id": 2, "video_id": 2, "category_id": 2, "iscrowd": 0},
    ]
    for track in tracks:
        track |= {"segmentations": [rle(2, 3, 8, 9), None], "bboxes": [[2.0, 3.0, 6.0, 6.0], None], "areas": [36, None]}
    return {
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "videos": [
            {"id": i, "height": H, "width": W, "length": 2, "file_names": [f"{i}/0.jpg", f"{i}/1.jpg"]} for i in (1, 2)
        ],
        "annotations": tracks,
    }


@pytest.fixture
def check(tmp_path):
    def check(data, frames=None):
        (tmp_path / "gt.json").write_text(json.dumps(data))
        return check_annotations(tmp_path / "gt.json", frames)

    return check


def test_nothing_wrong(check):
    assert check(content())[1] == []


def edit(path, value):
    """A change of the content: the value at ``path`` set, or removed if it is ``...``."""

    def apply(data):
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        if value is ...:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value

    return apply


A, V = ("annotations", 0), ("videos", 0)
MISTAKES = [
    # change, severity, field, (video, annotation, frame), part of the message, fixable
    (("categories",), [], "error", "categories", (None, None, None), "is missing or empty", False),
    (("categories", 1, "id"), 1, "error", "categories", (None, None, None), "id 1 occurs twice", False),
    (("categories", 1, "name"), "cat", "error", "categories", (None, None, None), "'cat' occurs 2 times", False),
    (("categories", 1, "name"), ..., "error", "categories", (None, None, None), "no integer 'id' or no 'name'", False),
    ((*V, "id"), "1", "error", "videos", (None, None, None), "has no integer 'id'", False),
    ((*V, "id"), 2, "error", "id", (2, None, None), "occurs twice among the videos", False),
    ((*V, "height"), 0, "error", "height", (1, None, None), "expected a positive integer, found 0", False),
    ((*V, "file_names"), [], "error", "file_names", (1, None, None), "expected a list", False),
    ((*V, "file_names"), ["1\\0.jpg", "b.jpg"], "error", "file_names", (1, None, None), "only", True),
    ((*V, "file_names"), ["1/0.jpg", "1/0.jpg"], "warning", "file_names", (1, None, None), "occurs twice", False),
    ((*V, "file_names"), ["../0.jpg", "1.jpg"], "error", "file_names", (1, None, None), "leads out", False),
    ((*V, "file_names"), ["1/../0.jpg", "/1.jpg"], "error", "file_names", (1, None, None), "'/1.jpg' leads out", False),
    ((*V, "length"), ..., "warning", "length", (1, None, None), "is missing", True),
    ((*V, "length"), 3, "error", "length", (1, None, None), "is 3, but there are 2", False),
    (("annotations",), ..., "warning", "annotations", (None, None, None), "is missing", False),
    (("annotations",), {}, "error", "annotations", (None, None, None), "expected a list", False),
    ((*A, "id"), None, "error", "id", (1, None, None), "expected an integer", False),
    ((*A, "id"), 2, "error", "id", (1, 2, None), "occurs 2 times", False),
    ((*A, "video_id"), 9, "error", "video_id", (9, 1, None), "no video 9", False),
    ((*A, "video_id"), [1], "error", "video_id", ([1], 1, None), "no video [1]", False),
    ((*A, "category_id"), 3, "error", "category_id", (1, 1, None), "3 is not among", False),
    ((*A, "category_id"), {}, "error", "category_id", (1, 1, None), "{} is not among", False),
    ((*A, "iscrowd"), "no", "error", "iscrowd", (1, 1, None), "expected 0 or 1", False),
    ((*A, "segmentations"), ..., "error", "segmentations", (1, 1, None), "is missing", False),
    ((*A, "segmentations"), [None], "error", "segmentations", (1, 1, None), "has 1 entries, the video has 2", False),
    ((*A, "segmentations", 0, "size"), [W, H], "error", "segmentations", (1, 1, 0), "mask size", False),
    ((*A, "segmentations", 0, "counts"), "abc", "error", "segmentations", (1, 1, 0), "", False),
    ((*A, "segmentations", 0), 7, "error", "segmentations", (1, 1, 0), "neither a run-length mask", False),
    ((*A, "segmentations", 0), [[1, 1, 5, 1, 5, 5, 2]], "error", "segmentations", (1, 1, 0), "even number", False),
    ((*A, "segmentations", 0), [[1, 1, 5, 1]], "error", "segmentations", (1, 1, 0), "at least 6", False),
    ((*A, "segmentations", 0), [[1, 1, 5, 1, 5, float("nan")]], "error", "segmentations", (1, 1, 0), "finite", False),
    ((*A, "segmentations", 1), rle(0, 0, 0, 0), "warning", "segmentations", (1, 1, 1), "has no pixel", True),
    ((*A, "bboxes"), ..., "warning", "bboxes", (1, 1, None), "follows from the masks", True),
    ((*A, "bboxes"), [None], "error", "bboxes", (1, 1, None), "expected a list of 2", True),
    ((*A, "bboxes", 0), [1, 2, 3], "error", "bboxes", (1, 1, 0), "expected [x, y, w, h]", True),
    ((*A, "bboxes", 0), None, "warning", "bboxes", (1, 1, 0), "there is a mask, but no box", True),
    ((*A, "bboxes", 1), [1, 1, 2, 2], "warning", "bboxes", (1, 1, 1), "there is a box, but no mask", True),
    ((*A, "bboxes", 0), [2, 3, 8, 9], "warning", "bboxes", (1, 1, 0), "but the mask's is", True),
    ((*A, "areas"), [1], "error", "areas", (1, 1, None), "expected a list of 2", True),
    ((*A, "areas", 0), 99, "warning", "areas", (1, 1, 0), "is 99, but the mask has 36", True),
    ((*A, "length"), 5, "warning", "length", (1, 1, None), "but the video's is 2", True),
]


@pytest.mark.parametrize(("path", "value", "severity", "field", "place", "message", "fixable"), MISTAKES)
def test_a_mistake_is_found_and_repaired_where_that_is_safe(
    path, value, severity, field, place, message, fixable, check
):
    data = content()
    edit(path, copy.deepcopy(value))(data)
    data, problems = check(data)
    found = [p for p in problems if (p.severity, p.field, (p.video, p.annotation, p.frame)) == (severity, field, place)]
    assert len(found) == 1 and message in found[0].message, [str(problem) for problem in problems]
    assert (found[0].repair is not None) == fixable
    assert "\n" not in str(found[0]) and ": :" not in str(found[0])
    if fixable:
        assert repair(problems) > 0
        assert [str(p) for p in check(data)[1] if p.field == field] == []


def test_a_track_without_any_mask_is_dropped(check):
    data = content()
    data["annotations"][0] |= {"segmentations": [None, None], "bboxes": [None, None], "areas": [None, None]}
    data, problems = check(data)
    assert "nobody can find" in problems[0].message
    repair(problems)
    assert [track["id"] for track in data["annotations"]] == [2]


def test_boxes_and_areas_of_a_malformed_mask_are_left_alone(check):
    data = content()
    track = data["annotations"][0]
    track["segmentations"][1] = {"size": [H, W], "counts": "oops"}
    track |= {"bboxes": [[1, 1, 1, 1], [2.0, 3.0, 6.0, 6.0]], "areas": [99, 36]}
    before = copy.deepcopy(track)
    data, problems = check(data)
    assert [(p.severity, p.field, p.frame, p.repair is not None) for p in problems] == [
        ("error", "segmentations", 1, False),
        ("warning", "bboxes", 0, False),
        ("warning", "areas", 0, False),
    ]
    repair(problems)
    assert data["annotations"][0] == before


def test_the_same_track_twice(check):
    data = content()
    data["annotations"].append({**data["annotations"][0], "id": 7})
    (problem,) = check(data)[1]
    assert (problem.annotation, problem.message) == (7, "the same masks as annotation 1")


def test_what_is_empty_is_told(check):
    data = content()
    del data["annotations"][1]
    assert [str(problem) for problem in check(data)[1]] == [
        "warning: video 2, field 'annotations': no object in the whole video",
        "warning: field 'categories': no object of class 2",
    ]


def test_frames_are_there_and_of_their_size(check, tmp_path):
    data = content()
    for name, size in (("1/0.jpg", (W, H)), ("1/1.jpg", (H, W)), ("2/0.jpg", (W, H))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "2" / "1.jpg").symlink_to("/etc/hosts")
    problems = check(data, tmp_path)[1]
    assert [(p.severity, p.video, p.frame) for p in problems] == [("error", 1, 1), ("error", 2, 1)]
    assert "has (16, 12)" in problems[0].message and "leads out of" in problems[1].message


def test_another_kind_of_file_is_refused(check):
    with pytest.raises(DataError, match="field 'videos' is missing"):
        check({"images": [], "annotations": []})
