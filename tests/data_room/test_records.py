"""YouTube-VIS json -> records: what is derived, and what each kind of broken file is reported as."""

import copy
import json

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import MetadataCatalog

from vis_core.data import load_ytvis_json
from vis_core.data.masks import box_of_mask, checked_mask
from vis_core.errors import DataError

H, W = 6, 8


def runs(top, bottom, left, right):
    """Uncompressed run-length mask of a rectangle, half-open."""
    mask = np.zeros((H, W), np.uint8)
    mask[top:bottom, left:right] = 1
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, H * W]).tolist()
    return {"size": [H, W], "counts": counts if flat[0] == 0 else [0, *counts]}


def content():
    return {
        "videos": [
            {"id": 7, "height": H, "width": W, "length": 2, "file_names": ["7/a.jpg", "7/b.jpg"]},
            {"id": 3, "height": H, "width": W, "file_names": ["3/a.jpg"]},
        ],
        "categories": [{"id": 9, "name": "whale"}, {"id": 4, "name": "fox"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 7,
                "category_id": 9,
                "segmentations": [runs(1, 3, 2, 5), None],
                "bboxes": [[2, 1, 3, 2], None],
            }
        ],
    }


@pytest.fixture
def load(tmp_path):
    def load(data, **options):
        path = tmp_path / "gt.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return load_ytvis_json(path, "root", **options)

    return load


def test_records_in_order_of_video_id(load):
    first, second = load(content())
    assert [first["video_id"], second["video_id"]] == [3, 7]
    assert first["length"] == 1 and first["annotations"] == [[]], "a missing length is the number of files"
    assert second["file_names"] == ["root/7/a.jpg", "root/7/b.jpg"]
    (obj,), nothing = second["annotations"]
    assert nothing == []
    assert (obj["category_id"], obj["id"], obj["iscrowd"], obj["bbox"]) == (1, 1, 0, [2, 1, 3, 2])
    assert coco_mask.decode(obj["segmentation"])[1:3, 2:5].all()
    assert coco_mask.area(obj["segmentation"]) == 6


@pytest.mark.parametrize("boxes", [None, [None, None], "absent"])
def test_missing_boxes_come_from_the_masks(load, boxes):
    data = content()
    data["annotations"][0]["bboxes"] = boxes
    if boxes == "absent":
        del data["annotations"][0]["bboxes"]
    assert load(data)[1]["annotations"][0][0]["bbox"] == [2, 1, 3, 2]


@pytest.mark.parametrize("annotations", [None, [], "absent"])
def test_without_ground_truth(load, annotations):
    data = content()
    data["annotations"] = annotations
    if annotations == "absent":
        del data["annotations"]
    assert [r["annotations"] for r in load(data)] == [[[]], [[], []]]


def test_compressed_masks_stay_as_they_are(load):
    data = content()
    rle = coco_mask.encode(np.asfortranarray(np.eye(H, W, dtype=np.uint8)))
    mask = {"size": [H, W], "counts": rle["counts"].decode()}
    data["annotations"][0]["segmentations"][0] = mask
    assert load(data)[1]["annotations"][0][0]["segmentation"] == mask


def test_degenerate_polygons_are_dropped_and_counted(load, caplog):
    data = content()
    corner = [1, 1, 4, 1, 4, 3]
    data["annotations"][0]["segmentations"] = [[corner, [1, 1, 2, 2]], [[1, 1, 2, 2], [1, 2, 3, 4, 5, 6, 7]]]
    data["annotations"][0]["bboxes"] = None
    record = load(data)[1]
    assert record["annotations"][0][0]["segmentation"] == [corner]
    assert record["annotations"][0][0]["bbox"] == [1, 1, 3, 2]
    assert record["annotations"][1] == []
    assert "skipped 1 mask" in caplog.text


def test_refined_masks_where_they_are(load):
    data = content()
    data["annotations"][0]["segmentations_refined"] = [None, runs(0, 6, 0, 8)]
    data["annotations"][0]["bboxes"] = None
    record = load(data, mask_field="segmentations_refined")[1]
    assert record["annotations"][0] == [] and record["annotations"][1][0]["bbox"] == [0, 0, W, H]
    data["annotations"][0]["segmentations_refined"] = None
    assert load(data, mask_field="segmentations_refined")[1]["annotations"][0][0]["bbox"] == [2, 1, 3, 2]
    del data["annotations"][0]["segmentations_refined"]
    assert load(data, mask_field="segmentations_refined")[1]["annotations"][0][0]["bbox"] == [2, 1, 3, 2]


def test_folders_that_are_links_are_followed(tmp_path):
    """A data set linked together from several places; a name may wander as long as it stays below."""
    data = content()
    data["videos"][0]["file_names"] = ["7/a.jpg", "3/../7/./b.jpg"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "7").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "gt.json").write_text(json.dumps(data))
    names = load_ytvis_json(tmp_path / "gt.json", tmp_path / "root")[1]["file_names"]
    assert names == [f"{tmp_path}/root/7/a.jpg", f"{tmp_path}/root/3/../7/b.jpg"]


def test_metadata_come_from_the_file(load):
    load(content(), dataset_name="records_fresh")
    metadata = MetadataCatalog.get("records_fresh")
    assert metadata.thing_classes == ["fox", "whale"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}
    load(content(), dataset_name="records_fresh")  # the same again is no conflict


def test_other_classes_than_registered(load):
    MetadataCatalog.get("records_taken").thing_classes = ["fox", "wolf"]
    with pytest.raises(DataError, match=r"gt\.json.*'categories'.*'records_taken'.*'whale' not 'wolf'.*register_ytvis"):
        load(content(), dataset_name="records_taken")


def edit(path, value):
    """A change of one entry of ``content()``, or its removal."""
    data = content()
    node = data
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return data


TRACK = ["annotations", 0]
WHERE = r"gt\.json: video 7, annotation 1.*"
BROKEN = {
    "short mask list": (edit([*TRACK, "segmentations"], [None]), WHERE + "'segmentations': has 1 entries.*2 frames"),
    "short box list": (edit([*TRACK, "bboxes"], [[1, 1, 2, 2]]), WHERE + "'bboxes': has 1 entries"),
    "no masks": (edit([*TRACK, "segmentations"], None), WHERE + "'segmentations': is missing"),
    "no object": (edit(["annotations", 0], 5), r"gt\.json, field 'annotations': entry 5 is not an object"),
    "unhashable category": (edit([*TRACK, "category_id"], [9]), WHERE + r"'category_id': \[9\] is not among"),
    "bad box": (edit([*TRACK, "bboxes"], [[1, 2, 3], None]), WHERE + "frame 0.*'bboxes'.*x, y, w, h"),
    "unknown category": (edit([*TRACK, "category_id"], 5), WHERE + "'category_id': 5 is not among"),
    "unknown video": (edit([*TRACK, "video_id"], 8), r"video 8, annotation 1.*'video_id': no such video"),
    "id twice": ({**content(), "annotations": content()["annotations"] * 2}, WHERE + "'id': occurs twice"),
    "run sum": (
        edit([*TRACK, "segmentations", 0, "counts"], [1, 2, 3]),
        WHERE + "frame 0.*'segmentations'.*add up to 6, not to 6 x 8 = 48",
    ),
    "negative run": (edit([*TRACK, "segmentations", 0, "counts"], [50, -2]), WHERE + "negative run"),
    "broken string": (edit([*TRACK, "segmentations", 0, "counts"], "abc"), WHERE + "frame 0.*'segmentations'"),
    "mask size": (edit([*TRACK, "segmentations", 0, "size"], [H, H]), WHERE + "size"),
    "mask kind": (edit([*TRACK, "segmentations", 0], "mask"), WHERE + "neither a run-length mask nor"),
    "file names": (edit(["videos", 0, "file_names"], None), r"video 7, field 'file_names'"),
    "absolute file": (
        edit(["videos", 0, "file_names"], ["a", "/etc/passwd"]),
        r"video 7, field 'file_names': '/etc/passwd'",
    ),
    "file above": (
        edit(["videos", 0, "file_names"], ["a/../../b", "c"]),
        r"video 7, field 'file_names'.*leads out of root",
    ),
    "file above, Windows": (
        edit(["videos", 0, "file_names"], ["..\\b", "c"]),
        r"video 7, field 'file_names'.*leads out",
    ),
    "too few files": (edit(["videos", 0, "length"], 5), r"video 7, field 'length': is 5, but there are 2"),
    "no height": (edit(["videos", 0, "height"], None), r"video 7, field 'height'"),
    "video twice": (edit(["videos", 1, "id"], 7), r"video 7, field 'id': occurs twice"),
    "no categories": (edit(["categories"], None), r"'categories' is missing.*meta\.json"),
    "category twice": (edit(["categories", 1, "id"], 9), r"'categories': id 9 occurs twice"),
    "coco file": (
        {"images": [], "annotations": [], "categories": []},
        r"'videos' is missing.*COCO.*register_coco_video",
    ),
    "not json": ('{"videos": [', r"gt\.json: not valid json"),
    "a list": ("[]", r"gt\.json: expected an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(load, case):
    data, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as e:
        load(copy.deepcopy(data))
    assert "\n" not in str(e.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        load_ytvis_json(tmp_path / "none.json", "root")


def test_masks_of_random_pixels_survive():
    stream = np.random.RandomState(0)
    for _ in range(20):
        pixels = (stream.rand(H, W) < stream.rand()).astype(np.uint8)
        flat = pixels.flatten(order="F")
        changes = np.flatnonzero(np.diff(flat)) + 1
        counts = [*([0] if flat[0] else []), *np.diff([0, *changes, H * W]).tolist()]
        mask = checked_mask("here", "mask", {"size": [H, W], "counts": counts}, H, W)
        assert (coco_mask.decode(mask) == pixels).all()
        if pixels.any():
            ys, xs = np.nonzero(pixels)
            assert box_of_mask(mask) == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
