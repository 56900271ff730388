import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json, load_coco_json, register_coco_instances
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.structures import BoxMode
from pycocotools.coco import COCO

NAME = "test_coco_dataset"


def annotation(id, image_id, category_id, **extra):
    polygon = [1, 2, 11, 2, 11, 8, 1, 8]
    common = {"id": id, "image_id": image_id, "category_id": category_id, "bbox": [1, 2, 10, 6]}
    return {**common, "iscrowd": 0, "area": 60, "segmentation": [polygon], **extra}


def content(annotations):
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 20, "width": 30},
            {"id": 4, "file_name": "sub/a.jpg", "height": 21, "width": 31},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": annotations,
    }


@pytest.fixture
def write(tmp_path):
    def write(annotations, name="a.json"):
        (tmp_path / name).write_text(json.dumps(content(annotations)))
        return str(tmp_path / name)

    yield write
    for catalog in (DatasetCatalog, MetadataCatalog):
        if NAME in catalog.list():
            catalog.remove(NAME)


def test_records(write):
    file = write([annotation(1, 7, 9), annotation(2, 4, 3, score=0.5), annotation(3, 7, 3)])
    records = load_coco_json(file, "/root", NAME, extra_annotation_keys=["score"])
    assert [(r["image_id"], r["file_name"], r["height"], r["width"]) for r in records] == [
        (4, "/root/sub/a.jpg", 21, 31),
        (7, "/root/b.jpg", 20, 30),
    ]
    assert [a["category_id"] for a in records[1]["annotations"]] == [1, 0]
    assert records[0]["annotations"] == [
        {
            "iscrowd": 0,
            "bbox": [1, 2, 10, 6],
            "category_id": 0,
            "score": 0.5,
            "segmentation": [[1, 2, 11, 2, 11, 8, 1, 8]],
            "bbox_mode": BoxMode.XYWH_ABS,
        }
    ]
    meta = MetadataCatalog.get(NAME)
    assert meta.thing_classes == ["cat", "dog"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 9: 1}


def test_category_ids_stay_without_a_name(write):
    records = load_coco_json(write([annotation(1, 7, 9)]), "")
    assert records[1]["annotations"][0]["category_id"] == 9
    assert NAME not in MetadataCatalog.list()


def test_unusable_polygons(write):
    short, odd, good = [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 7]
    file = write([annotation(1, 7, 9, segmentation=[short, odd]), annotation(2, 7, 9, segmentation=[short, good])])
    (kept,) = load_coco_json(file, "", NAME)[1]["annotations"]
    assert kept["segmentation"] == [good]


def test_uncompressed_rle_is_compressed(write):
    mask = np.zeros((20, 30), dtype=np.uint8, order="F")
    mask[3:9, 4:12] = 1
    runs = np.diff(np.concatenate([[0], np.nonzero(np.diff(mask.flatten(order="F")))[0] + 1, [600]])).tolist()
    file = write([annotation(1, 7, 9, segmentation={"size": [20, 30], "counts": runs}, iscrowd=1)])
    (loaded,) = load_coco_json(file, "", NAME)[1]["annotations"]
    np.testing.assert_array_equal(mask_util.decode(loaded["segmentation"]), mask)


def test_keypoints_become_continuous(write):
    file = write([annotation(1, 7, 9, keypoints=[3, 4, 2, 5, 6, 1])])
    assert load_coco_json(file, "", NAME)[1]["annotations"][0]["keypoints"] == [3.5, 4.5, 2, 5.5, 6.5, 1]


def test_wrong_files(write):
    with pytest.raises(AssertionError):
        load_coco_json(write([annotation(1, 7, 9), annotation(1, 4, 9)]), "", NAME)
    with pytest.raises(ValueError):
        load_coco_json(write([annotation(1, 7, 9, bbox=[])]), "", NAME)
    with pytest.raises(KeyError):
        load_coco_json(write([annotation(1, 7, 5)]), "", NAME)


def test_registration_reads_late(write):
    file = write([annotation(1, 7, 9)])
    register_coco_instances(NAME, {"thing_colors": [[1, 2, 3]]}, file, "/images")
    meta = MetadataCatalog.get(NAME)
    assert (meta.json_file, meta.image_root, meta.evaluator_type) == (file, "/images", "coco")
    assert meta.thing_colors == [[1, 2, 3]] and meta.get("thing_classes") is None
    assert len(DatasetCatalog.get(NAME)) == 2 and meta.thing_classes == ["cat", "dog"]


def test_round_trip(write, tmp_path):
    mask = np.zeros((20, 30), dtype=np.uint8, order="F")
    mask[3:9, 4:12] = 1
    rle = mask_util.encode(mask)
    rle["counts"] = rle["counts"].decode()
    annotations = [
        annotation(1, 7, 9),
        annotation(2, 7, 3, segmentation=rle, bbox=[4, 3, 8, 6]),
        annotation(3, 4, 3, iscrowd=1, segmentation=rle, bbox=[4.12345, 3, 8, 6]),
    ]
    register_coco_instances(NAME, {}, write(annotations), "")
    records = DatasetCatalog.get(NAME)
    out = str(tmp_path / "out" / "converted.json")
    convert_to_coco_json(NAME, out)
    coco = COCO(out)  # the format's own reader takes it
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {3: "cat", 9: "dog"}
    areas = {a["bbox"][0]: a["area"] for a in coco.dataset["annotations"]}
    assert areas == {1.0: 60, 4.0: 48, 4.123: 48}

    again = load_coco_json(out, "", NAME)
    assert [r["file_name"] for r in again] == [r["file_name"] for r in records]
    for a, b in zip(records, again):
        assert [x["category_id"] for x in a["annotations"]] == [x["category_id"] for x in b["annotations"]]
        assert [x["iscrowd"] for x in a["annotations"]] == [x["iscrowd"] for x in b["annotations"]]
        assert [x["segmentation"] for x in a["annotations"]] == [x["segmentation"] for x in b["annotations"]]
        np.testing.assert_allclose(
            [x["bbox"] for x in a["annotations"]], [x["bbox"] for x in b["annotations"]], atol=1e-3
        )


def test_conversion_of_a_dataset_of_dicts(tmp_path):
    box_only = {"bbox": [2.0, 3.0, 12.0, 8.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    records = [{"file_name": "x", "height": 20, "width": 30, "image_id": 5, "annotations": [box_only]}]
    DatasetCatalog.register(NAME, lambda: records)
    try:
        MetadataCatalog.get(NAME).thing_classes = ["a", "b"]
        (converted,) = convert_to_coco_dict(NAME)["annotations"]
        assert converted["bbox"] == [2, 3, 10, 5] and converted["area"] == 50 and converted["iscrowd"] == 0
        assert (converted["image_id"], converted["category_id"]) == (5, 1) and "segmentation" not in converted
        out = tmp_path / "c.json"
        out.write_text("old")
        convert_to_coco_json(NAME, str(out), allow_cached=True)
        assert out.read_text() == "old"
        convert_to_coco_json(NAME, str(out), allow_cached=False)
        assert len(json.loads(out.read_text())["annotations"]) == 1
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
