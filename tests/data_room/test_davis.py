"""DAVIS from its folders of palette PNGs: records, layouts, what is reported when something is amiss."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from vis_core.data import builtin, dataset_metadata, register_davis
from vis_core.data.davis import DavisFolders, load_davis
from vis_core.data.filtering import annotated_frames
from vis_core.data.label_maps import write_label_map
from vis_core.errors import ConfigError, DataError
from vis_core.tube import decode_mask

SIZE = (12, 16)


def label_map():
    labels = np.zeros(SIZE, np.uint8)
    labels[2:5, 3:9] = 1
    labels[6:8, 1:3] = 4
    labels[11, :] = 255
    return labels


@pytest.fixture
def archive(tmp_path):
    """Video "a" with masks in frames 0 and 2 of 3, video "b" without."""
    root = tmp_path / "DAVIS"
    for video, length in (("b", 1), ("a", 3)):
        folder = root / "JPEGImages/480p" / video
        folder.mkdir(parents=True)
        for t in range(length):
            Image.new("RGB", SIZE[::-1]).save(folder / f"{t:05d}.jpg")
    masks = root / "Annotations_unsupervised/480p"
    write_label_map(masks / "a/00000.png", label_map())
    write_label_map(masks / "a/00002.png", np.zeros(SIZE, np.uint8))
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("b\na\n")
    return root


def test_records(archive):
    empty, record = load_davis(DavisFolders.find(archive, "val"))
    assert [empty["video_id"], record["video_id"]] == [1, 2]
    assert [name[-11:] for name in record["file_names"]] == [f"a/{t:05d}.jpg" for t in range(3)]
    assert (record["height"], record["width"], record["length"]) == (*SIZE, 3)
    assert empty["annotations"] == [[]] and record["annotations"][1:] == [[], []]
    objects = record["annotations"][0]
    assert [(obj["id"], obj["iscrowd"], obj["category_id"]) for obj in objects] == [(1, 0, 0), (4, 0, 0), (255, 1, 0)]
    assert [obj["bbox"] for obj in objects] == [[3, 2, 6, 3], [1, 6, 2, 2], [0, 11, 16, 1]]
    for obj in objects:
        assert (decode_mask(obj["segmentation"]) == (label_map() == obj["id"])).all()
    assert annotated_frames(record) == [0]


def test_own_folders_under_any_name(archive):
    masks = archive / "Annotations_unsupervised/480p"
    register_davis("davis_own", archive / "ImageSets/2017/val.txt", archive / "JPEGImages/480p", masks)
    metadata = dataset_metadata("davis_own")
    assert (metadata.evaluator_type, metadata.vis_format) == ("davis_uvos", "davis")
    assert metadata.thing_classes == ["instance"]
    assert len(DatasetCatalog.get("davis_own")) == 2
    with pytest.raises(ConfigError, match="'davis_own' is registered already"):
        register_davis("davis_own", archive / "x", archive, None)


def test_public_name_finds_the_archive(archive, monkeypatch, caplog):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(archive.parent))
    with caplog.at_level("INFO"):
        assert len(DatasetCatalog.get("davis_uvos_val")) == 2
    assert "ImageSets/2017/val.txt" in caplog.text
    assert MetadataCatalog.get("davis_uvos_val").evaluator_type == "davis_uvos"
    with pytest.raises(DataError, match=r"davis_uvos_train: no annotation file.*unpacked archive in DAVIS, davis"):
        DatasetCatalog.get("davis_uvos_train")


def test_public_name_finds_the_json_files(tmp_path):
    video = {"id": 1, "height": 4, "width": 4, "file_names": ["a/0.jpg"]}
    (tmp_path / "trainvalset_davis").mkdir()
    content = {"videos": [video], "categories": [{"id": 1, "name": "instance"}]}
    (tmp_path / "valid_davis.json").write_text(json.dumps(content))
    (record,) = builtin.load_davis_split("davis_uvos_val", builtin.BUILTIN_SPLITS["davis_uvos_val"], tmp_path)
    assert record["file_names"] == [str(tmp_path / "trainvalset_davis/a/0.jpg")]


def test_older_annotations_serve_too(archive):
    (archive / "Annotations_unsupervised").rename(archive / "Annotations")
    assert DavisFolders.find(archive, "val").masks == archive / "Annotations/480p"
    assert DavisFolders.find(archive, "test-dev") is None


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda root: (root / "ImageSets/2017/val.txt").write_text("\n"), r"val\.txt: names no video"),
        (lambda root: (root / "ImageSets/2017/val.txt").write_text("c"), r"480p/c: no such folder, but .*val\.txt"),
        (
            lambda root: (root / "ImageSets/2017/val.txt").write_text("../a"),
            r"val\.txt, .*'\.\./a' leads out of .*p;",
        ),
        (lambda root: (root / "ImageSets/2017/val.txt").write_text("/etc"), r"val\.txt, .*'/etc' leads out of .*p;"),
        (lambda root: (root / "JPEGImages/480p/b/00000.jpg").unlink(), r"480p/b: holds no frame"),
        (
            lambda root: write_label_map(root / "Annotations_unsupervised/480p/a/00000.png", np.ones((3, 4))),
            r"a/00000\.png: height and width are \[3, 4\], the frames' are \[12, 16\]",
        ),
    ],
)
def test_what_is_wrong_is_named(archive, damage, message):
    folders = DavisFolders.find(archive, "val")
    damage(archive)
    with pytest.raises(DataError, match=message):
        load_davis(folders)
