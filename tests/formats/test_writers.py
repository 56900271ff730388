"""What formats hold without vis.json, where overlaps go, and output that is whole or not there."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vis_core.data.formats import Labels, ReadOptions, Track, Video, WriteOptions, read_labels, sidecar, write_labels
from vis_core.data.formats.regions import mask_rle
from vis_core.errors import DataError
from vis_core.tube import decode_mask

H, W = 12, 16


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def labels():
    """Two videos, three objects, of which the first two overlap in frame 0."""
    large, small = rectangle(0, 0, 10, 10), rectangle(8, 8, 12, 12)
    first = Video("a", H, W, ["a/0.jpg", "a/1.jpg"], id=3)
    first.tracks = [
        Track("8", "cat", {0: mask_rle(large), 1: mask_rle(large)}, id=8),
        Track("5", "dog", {0: mask_rle(small)}, id=5),
    ]
    second = Video("b", H, W, ["b/0.jpg"], [Track("9", "cat", {0: mask_rle(small)}, id=9)], id=6)
    return Labels([first, second], {"dog": 2, "cat": 7})


@pytest.fixture
def frames(tmp_path):
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg"):
        path = tmp_path / "frames" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(path)
    return tmp_path / "frames"


def without_sidecar(labels, name, folder):
    write_labels(labels, folder, name)
    (folder / sidecar.NAME).unlink()
    return read_labels(folder, name)


def tracks_of(labels):
    return {(video.name, track.category): track for video in labels.videos for track in video.tracks}


@pytest.mark.parametrize(("name", "keeps_ids"), [("labelme", True), ("cvat", True), ("davis", False)])
def test_classes_and_masks_need_no_sidecar(name, keeps_ids, labels, tmp_path):
    expected = tracks_of(copy.deepcopy(labels))
    read = without_sidecar(labels, name, tmp_path / "out")
    found = tracks_of(read)
    assert set(found) == set(expected)
    for key, track in found.items():
        assert set(track.masks) == set(expected[key].masks)
        if keeps_ids:
            assert track.id == expected[key].id
            assert track.masks == expected[key].masks
    if name == "cvat":
        assert [video.id for video in read.videos] == [3, 6]


@pytest.mark.parametrize("name", ["davis", "mots", "mots-png"])
def test_a_shared_pixel_goes_to_the_smaller_object(name, labels, tmp_path):
    write_labels(labels, tmp_path / "out", name)
    assert labels.notes["pixels that several objects had went to the smallest of them"] == 4
    found = tracks_of(read_labels(tmp_path / "out"))
    np.testing.assert_array_equal(decode_mask(found["a", "dog"].masks[0]), rectangle(8, 8, 12, 12))
    np.testing.assert_array_equal(
        decode_mask(found["a", "cat"].masks[0]), rectangle(0, 0, 10, 10) & ~rectangle(8, 8, 12, 12)
    )


def test_palette_images_are_what_other_tools_expect(labels, frames, tmp_path):
    write_labels(labels, tmp_path / "out", "davis", WriteOptions(frames))
    with Image.open(tmp_path / "out" / "Annotations" / "a" / "0.png") as image:
        assert image.mode == "P" and image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert np.unique(np.asarray(image)).tolist() == [0, 1, 2]
    assert (tmp_path / "out" / "JPEGImages" / "a" / "0.jpg").read_bytes() == (frames / "a" / "0.jpg").read_bytes()
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["videos"]["a"]["objects"]["2"] == {"category": "dog", "frames": ["0"]}


def test_mots_lines_are_what_other_tools_expect(labels, tmp_path):
    labels.categories = {"dog": 2, "cat": 1}
    write_labels(labels, tmp_path / "out", "mots")
    lines = (tmp_path / "out" / "instances_txt" / "a.txt").read_text().splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["0", "1001", "1", str(H), str(W)],
        ["0", "2001", "2", str(H), str(W)],
        ["1", "1001", "1", str(H), str(W)],
    ]


@pytest.mark.parametrize("name", ["davis", "mots"])
def test_crowds_are_not_objects(name, labels, tmp_path):
    labels.videos[0].tracks[1].iscrowd = True
    write_labels(labels, tmp_path / "out", name)
    assert sum(count for note, count in labels.notes.items() if "crowd" in note) == 1
    assert set(tracks_of(read_labels(tmp_path / "out"))) == {("a", "cat"), ("b", "cat")}


def test_class_numbers_of_mots_avoid_the_one_that_means_ignore(labels, tmp_path):
    labels.categories = {"dog": 10, "cat": 99}
    write_labels(labels, tmp_path / "out", "mots-png")
    read = read_labels(tmp_path / "out")
    assert read.categories == {"dog": 10, "cat": 99} and len(tracks_of(read)) == 3


def test_a_class_corrected_in_the_other_tool_stays_corrected(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "labelme")
    path = tmp_path / "out" / "b" / "0.json"
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    read = read_labels(tmp_path / "out")
    (track,) = read.videos[1].tracks
    assert track.category == "dog" and read.categories == {"dog": 2, "cat": 7} and track.id == 9


def test_an_object_added_in_the_other_tool_gets_the_next_id(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "labelme")
    path = tmp_path / "out" / "b" / "0.json"
    content = json.loads(path.read_text())
    content["shapes"].append({**content["shapes"][0], "label": "ant", "group_id": None})
    path.write_text(json.dumps(content))
    read = read_labels(tmp_path / "out")
    assert {track.category: track.id for track in read.videos[1].tracks} == {"cat": 9, "ant": 10}
    assert read.categories == {"dog": 2, "cat": 7, "ant": 8}


def test_classes_can_be_given(labels, tmp_path):
    write_labels(labels, tmp_path / "all.json")
    read = read_labels(tmp_path / "all.json", class_names=["ant", "cat", "dog"])
    assert read.categories == {"ant": 1, "cat": 2, "dog": 3}
    with pytest.raises(DataError, match="class 'dog' is not in --classes"):
        read_labels(tmp_path / "all.json", class_names=["cat"])


def test_a_folder_that_is_in_use_is_left_alone(labels, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(DataError, match="exists already"):
        write_labels(labels, tmp_path / "out", "davis")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_failure_leaves_nothing(labels, frames, tmp_path):
    (frames / "b" / "0.jpg").unlink()
    with pytest.raises(DataError, match="no such frame"):
        write_labels(labels, tmp_path / "out", "davis", WriteOptions(frames))
    assert {path.name for path in tmp_path.iterdir()} == {"frames"}
    with pytest.raises(DataError, match="holds at most 254"):
        labels.videos[0].tracks = [Track(str(i), "cat", {}, id=i) for i in range(1, 256)]
        write_labels(labels, tmp_path / "out", "davis")
    assert {path.name for path in tmp_path.iterdir()} == {"frames"}


@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_nothing_is_written_outside_the_folder(name, labels, tmp_path):
    labels.videos[0].name = name if name.startswith(".") else str(tmp_path / "evil")
    with pytest.raises(DataError, match="leads out of"):
        write_labels(labels, tmp_path / "deep" / "out", "davis")
    assert not list(tmp_path.rglob("*evil*"))


def test_names_of_a_json_cannot_lead_out_when_frames_are_copied(labels, frames, tmp_path):
    (tmp_path / "secret.jpg").write_text("secret")
    labels.videos[1].file_names = ["../secret.jpg"]
    with pytest.raises(DataError, match="leads out of"):
        write_labels(labels, tmp_path / "out", "labelme", WriteOptions(frames))


def test_a_damaged_sidecar_is_told(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "davis")
    path = tmp_path / "out" / sidecar.NAME
    good = path.read_text()
    video = next(iter(json.loads(good)["videos"]))
    for change in (
        lambda content: content.update(videos=3),
        lambda content: content["videos"][video].update(file_names="abc"),
        lambda content: content["videos"][video].update(file_names=[1, 2]),
        lambda content: content["videos"][video].update(id="1"),
        lambda content: content["videos"][video]["tracks"].update({"1": {"id": 1, "category": None}}),
        lambda content: content.update(categories={"cat": "1"}),
        lambda content: content.update(class_numbers={"x": "cat"}),
    ):
        content = json.loads(good)
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match="damaged"):
            read_labels(tmp_path / "out")


def test_a_damaged_sidecar_is_told_without_assertions(tmp_path):
    content = {"categories": {"cat": "1"}, "class_numbers": {}, "videos": {}}
    (tmp_path / sidecar.NAME).write_text(json.dumps(content))
    code = "import pathlib, sys; from vis_core.data.formats import sidecar; sidecar.load(pathlib.Path(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-O", "-c", code, tmp_path], capture_output=True, text=True)
    assert "vis.json: damaged" in run.stderr


def test_progress_is_told(labels, tmp_path):
    seen = []

    def track(items, what):
        for item in items:
            seen.append(what)
            yield item

    write_labels(labels, tmp_path / "out", "labelme", WriteOptions(track=track))
    read_labels(tmp_path / "out", options=ReadOptions(track=track))
    assert seen == ["videos"] * 4
