"""Registration: own data under any name, the public sets under theirs, wherever their files lie."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from vis_core.data import dataset_metadata, load_coco_json, register_coco_video, register_ytvis
from vis_core.data.builtin import BUILTIN_SPLITS, Split, find_files
from vis_core.data.categories import YTVIS_2019
from vis_core.data.datasets_root import datasets_root
from vis_core.data.shapes import register
from vis_core.errors import ConfigError, DataError

VIDEO = {"id": 1, "height": 4, "width": 4, "file_names": ["a.jpg"]}


def write(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_own_videos_in_one_call(tmp_path):
    path = write(tmp_path / "fish.json", videos=[VIDEO], categories=[{"id": 3, "name": "zebrafish"}])
    register_ytvis("coco_looking_name", path, tmp_path, evaluation_tasks=["tube_mask"])
    metadata = dataset_metadata("coco_looking_name")
    assert metadata.thing_classes == ["zebrafish"]
    assert (metadata.evaluator_type, metadata.vis_format) == ("ytvis", "ytvis")
    assert metadata.evaluation_tasks == ("tube_mask",)
    assert metadata.json_file == str(path) and metadata.image_root == str(tmp_path)
    assert DatasetCatalog.get("coco_looking_name")[0]["file_names"] == [str(tmp_path / "a.jpg")]
    with pytest.raises(ConfigError, match="'coco_looking_name' is registered already"):
        register_ytvis("coco_looking_name", path, tmp_path)


def test_registration_reads_nothing(tmp_path):
    register_ytvis("catalog_absent", tmp_path / "none.json", tmp_path)
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        DatasetCatalog.get("catalog_absent")


def test_all_public_names_are_registered():
    names = {f"ytvis_{year}_{split}" for year in (2019, 2021, 2022) for split in ("train", "val", "test")}
    names |= {f"{name}_{split}" for name in ("ovis", "hq_ytvis") for split in ("train", "val", "test")}
    names |= {f"coco2{name}_{s}" for name in ("ytvis2019", "ytvis2021", "ovis", "davis") for s in ("train", "val")}
    names |= {"ytvis_2019_val_all_frames", "davis_uvos_train", "davis_uvos_val", "shapesvis_train", "shapesvis_val"}
    assert names <= set(DatasetCatalog.list())
    assert names - {"shapesvis_train", "shapesvis_val"} == set(BUILTIN_SPLITS)
    metadata = MetadataCatalog.get("ovis_val")
    assert len(metadata.thing_classes) == len(metadata.thing_colors) == 25
    assert metadata.thing_dataset_id_to_contiguous_id[1] == 0
    assert MetadataCatalog.get("coco2ovis_train").thing_classes == metadata.thing_classes


@pytest.mark.parametrize(
    "json_file, images",
    [
        ("ytvis_2021/valid.json", "ytvis_2021/valid/JPEGImages"),
        ("ytvis_2021/valid/instances.json", "ytvis_2021/valid/JPEGImages"),
        ("ytvis_2021/annotations/instances_val_sub.json", "ytvis_2021/val/JPEGImages"),
        ("youtube_vis_2021/valid/instances.json", "youtube_vis_2021/valid/JPEGImages"),
    ],
)
def test_known_layouts_are_found(tmp_path, caplog, json_file, images):
    write(tmp_path / json_file, videos=[])
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    with caplog.at_level("INFO"):
        found = find_files("ytvis_2021_val", BUILTIN_SPLITS["ytvis_2021_val"], tmp_path)
    assert found == (tmp_path / json_file, tmp_path / images)
    assert json_file in caplog.text and len(caplog.records) == 1


def test_first_layout_wins(tmp_path):
    split = Split(("b.json", "a.json"), (".",), YTVIS_2019)
    for name in split.json_files:
        write(tmp_path / name)
    assert find_files("x", split, tmp_path)[0] == tmp_path / "b.json"


def test_nothing_found_lists_what_was_tried(tmp_path):
    with pytest.raises(DataError, match=r"ovis_train: no annotation file.*tried ovis/annotations/train\.json, ") as e:
        find_files("ovis_train", BUILTIN_SPLITS["ovis_train"], tmp_path)
    assert all(place in str(e.value) for place in BUILTIN_SPLITS["ovis_train"].json_files)
    write(tmp_path / "ovis/annotations_train.json")
    with pytest.raises(DataError, match=r"ovis_train: no image folder"):
        find_files("ovis_train", BUILTIN_SPLITS["ovis_train"], tmp_path)


def test_public_set_is_looked_for_when_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(DataError, match=r"ytvis_2019_val_all_frames: no annotation file"):
        DatasetCatalog.get("ytvis_2019_val_all_frames")
    categories = [{"id": i, "name": name} for i, name in zip(YTVIS_2019.ids, YTVIS_2019.names)]
    path = write(tmp_path / "ytvis_2019/valid_all_frames.json", videos=[VIDEO], categories=categories)
    (tmp_path / "ytvis_2019/valid_all_frames/JPEGImages").mkdir(parents=True)
    assert len(DatasetCatalog.get("ytvis_2019_val_all_frames")) == 1
    assert MetadataCatalog.get("ytvis_2019_val_all_frames").json_file == str(path)


def test_the_home_folder_in_the_root_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    roots = []
    monkeypatch.setattr(register, "register_shapes", lambda name, config, root: roots.append(root))
    register.register_shapesvis()
    assert {*roots, datasets_root() / "shapesvis"} == {tmp_path / "data" / "shapesvis"}


# ------------------------------------------------------------------------------------------------ COCO


def coco_content():
    square = [[0, 0, 3, 0, 3, 3, 0, 3]]
    objects = [
        {"id": 1, "image_id": 5, "category_id": 18, "segmentation": square, "bbox": [0, 0, 3, 3], "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 77, "segmentation": square, "bbox": [0, 0, 3, 3]},
        {"id": 3, "image_id": 2, "category_id": 77, "segmentation": square, "bbox": [0, 0, 3, 3]},
        {"id": 4, "image_id": 5, "category_id": 18, "segmentation": [[1, 1]], "bbox": [0, 0, 3, 3]},
    ]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 5} for i in (5, 2)]
    categories = [{"id": 18, "name": "dog"}, {"id": 77, "name": "phone"}]
    return {"images": images, "annotations": objects, "categories": categories}


def test_coco_with_class_map(tmp_path, caplog):
    path = write(tmp_path / "coco.json", **coco_content())
    (record,) = load_coco_json(path, "root", class_map={18: 7})
    assert record["file_name"] == "root/5.jpg" and record["image_id"] == 5
    assert [obj["category_id"] for obj in record["annotations"]] == [7]
    assert "skipped 1 objects" in caplog.text


def test_coco_with_its_own_classes(tmp_path):
    path = write(tmp_path / "coco.json", **coco_content())
    register_coco_video("catalog_coco", path, tmp_path)
    assert [len(r["annotations"]) for r in DatasetCatalog.get("catalog_coco")] == [1, 2]
    metadata = MetadataCatalog.get("catalog_coco")
    assert metadata.thing_classes == ["dog", "phone"] and metadata.vis_format == "coco"


@pytest.mark.parametrize(
    "path, value, message",
    [
        (["annotations", 0, "category_id"], 6, "image 5, annotation 1, field 'category_id': 6 is not among"),
        (["annotations", 0, "image_id"], 9, "image 9, annotation 1, field 'image_id': no such image"),
        (["annotations", 0, "segmentation"], {"size": [4, 5], "counts": [3]}, "field 'segmentation'.*add up to 3"),
        (["images", 0, "file_name"], "", "image 5, field 'file_name'"),
        (["images", 1, "id"], 5, "image 5, field 'id': occurs twice"),
        (["annotations"], {"1": {}}, "field 'annotations': expected a list, found a dict"),
        (["annotations"], {}, "field 'annotations': expected a list, found a dict"),
        (["annotations", 1], 5, "field 'annotations': entry 5 is not an object"),
        (["annotations", 1, "id"], 1, "image 5, annotation 1, field 'id': occurs twice"),
        (["annotations", 1, "id"], None, "image 5, annotation None, field 'id': expected an integer"),
        (["annotations", 0, "image_id"], [5], r"field 'image_id': no such image"),
        (["annotations", 0, "bbox"], "oops", r"annotation 1, field 'bbox': expected \[x, y, w, h\], found 'oops'"),
        (["images", 0, "file_name"], "/etc/passwd", "image 5, field 'file_name': '/etc/passwd' leads out of root"),
        (["images", 0, "file_name"], "../../x.jpg", "image 5, field 'file_name': '../../x.jpg' leads out of root"),
        (["images"], None, "'images' is missing"),
    ],
)
def test_broken_coco_files_are_named(tmp_path, path, value, message):
    content = coco_content()
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(DataError, match=r"coco\.json.*" + message):
        load_coco_json(write(tmp_path / "coco.json", **content), "root", class_map={18: 0})


def test_video_file_given_as_coco(tmp_path):
    path = write(tmp_path / "coco.json", videos=[VIDEO], categories=[{"id": 1, "name": "a"}])
    with pytest.raises(DataError, match=r"'images' is missing.*YouTube-VIS.*register_ytvis"):
        load_coco_json(path, "root")
