"""ShapesVIS: what is generated, that it is reproducible, and that it is safe to ask for at once."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from vis_core.data.shapes import (
    CATEGORIES,
    SPLITS,
    ShapesConfig,
    generate_shapes,
    make_scene,
    register_shapes,
    render_frame,
    shapes_paths,
)
from vis_core.errors import ConfigError, DataError

SMALL = ShapesConfig(num_videos=3, length=6, height=64, width=96, seed=5, difficulty=0.6)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    json_file, image_root = generate_shapes(tmp_path_factory.mktemp("shapes"), SMALL)
    return json.loads(json_file.read_text()), image_root


def test_layout_is_youtube_vis(small):
    content, image_root = small
    assert [c["name"] for c in content["categories"]] == list(CATEGORIES)
    assert [v["id"] for v in content["videos"]] == [1, 2, 3]
    for video in content["videos"]:
        assert (video["height"], video["width"], video["length"]) == (64, 96, 6)
        assert len(video["file_names"]) == 6
        for name in video["file_names"]:
            assert cv2.imread(str(image_root / name)).shape == (64, 96, 3)
    ids = [a["id"] for a in content["annotations"]]
    assert len(set(ids)) == len(ids)


def test_annotations_agree_with_their_masks(small):
    content, _ = small
    for track in content["annotations"]:
        assert 1 <= track["category_id"] <= len(CATEGORIES)
        assert any(track["segmentations"])
        lists = [track[k] for k in ("segmentations", "bboxes", "areas", "occlusion")]
        assert all(len(values) == 6 for values in lists)
        for rle, box, area, level in zip(*lists):
            if rle is None:
                assert box is None and area is None and level is None
                continue
            assert isinstance(rle["counts"], str) and rle["size"] == [64, 96]
            mask = coco_mask.decode(rle)
            assert mask.sum() == area
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box == [cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1]
            assert level in ("no_occlusion", "slight_occlusion", "severe_occlusion")


def test_masks_are_the_visible_parts(small):
    content, _ = small
    for video in content["videos"]:
        tracks = [a for a in content["annotations"] if a["video_id"] == video["id"]]
        for frame in range(video["length"]):
            rles = [t["segmentations"][frame] for t in tracks if t["segmentations"][frame]]
            assert sum(coco_mask.decode(r).astype(int) for r in rles).max(initial=0) <= 1


def test_file_equals_rendering(small, tmp_path):
    """The json's masks are those of the rendered pixels; lossless frames hold exactly the rendered image."""
    json_file, image_root = generate_shapes(tmp_path, dataclasses.replace(SMALL, num_videos=1, image_format="png"))
    content = json.loads(json_file.read_text())
    scene = make_scene(SMALL, 0)
    for frame, name in enumerate(content["videos"][0]["file_names"]):
        image, owner, _ = render_frame(scene, frame)
        np.testing.assert_array_equal(cv2.imread(str(image_root / name))[..., ::-1], image)
        areas = sorted(a["areas"][frame] for a in content["annotations"] if a["areas"][frame])
        counts = np.bincount(owner[owner >= 0], minlength=1)
        assert areas == sorted(c for c in counts if c >= 8)


def test_same_parameters_same_files(small, tmp_path):
    content, image_root = small
    json_file, again = generate_shapes(tmp_path, SMALL)
    assert json.loads(json_file.read_text()) == content
    for video in content["videos"]:
        for name in video["file_names"]:
            assert (again / name).read_bytes() == (image_root / name).read_bytes()


def test_small_set_is_prefix_of_large_one_and_seeds_differ():
    frame = render_frame(make_scene(SMALL, 2), 3)[0]
    np.testing.assert_array_equal(frame, render_frame(make_scene(dataclasses.replace(SMALL, num_videos=9), 2), 3)[0])
    assert np.abs(frame.astype(int) - render_frame(make_scene(dataclasses.replace(SMALL, seed=6), 2), 3)[0]).mean() > 5


def test_difficulty_brings_occlusion_exits_and_lookalikes():
    """Statistics over many videos, without rendering colours to disk."""
    config = ShapesConfig(length=24, height=64, width=96, difficulty=1.0)
    tracks = hidden = gone_and_back = lookalikes = 0
    for index in range(12):
        scene = make_scene(config, index)
        assert config.min_objects <= len(scene.objects) <= config.max_objects
        counts = np.zeros((config.length, len(scene.objects)), dtype=int)
        for frame in range(config.length):
            _, owner, areas = render_frame(scene, frame)
            counts[frame] = np.bincount(owner[owner >= 0], minlength=len(scene.objects))
            hidden += np.count_nonzero((areas > 0) & (counts[frame] < 0.5 * areas))
            assert (counts[frame] <= areas).all()
        for visible in (counts > 8).T:
            inner = visible[np.argmax(visible) : len(visible) - np.argmax(visible[::-1])]
            gone_and_back += int(visible.any() and not inner.all())
        tracks += len(scene.objects)
        lookalikes += len(scene.objects) - len({o.category for o in scene.objects})
    assert hidden > tracks  # severe occlusion is usual
    assert gone_and_back > 0.1 * tracks
    assert lookalikes > 0.3 * tracks


def test_sharp_corners_differ_from_round_ones():
    def square_area(corners):
        scene = make_scene(ShapesConfig(length=1, corners=corners, seed=3), 0)
        return render_frame(scene, 0)[2].sum()

    assert square_area("sharp") > square_area("round")


def test_every_parameter_has_its_own_folder(tmp_path):
    other = dict(
        num_videos=4, length=7, height=65, width=97, seed=6, difficulty=0.7, min_objects=3, max_objects=5,
        corners="sharp", texture="plain", shadows=False, image_format="png",
    )  # fmt: skip
    assert set(other) == {f.name for f in dataclasses.fields(ShapesConfig)}
    folders = {shapes_paths(tmp_path, dataclasses.replace(SMALL, **{k: v}))[0] for k, v in other.items()}
    assert len(folders | {shapes_paths(tmp_path, SMALL)[0]}) == len(other) + 1


@pytest.mark.parametrize(
    "field, value",
    [("num_videos", 0), ("height", 8), ("difficulty", 1.5), ("max_objects", 1), ("corners", "soft"), ("seed", -1)],
)
def test_bad_parameter_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"ShapesConfig\.{field}"):
        ShapesConfig(**{field: value})


def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    from vis_core.data.shapes import generate

    config = dataclasses.replace(SMALL, num_videos=2)
    leftover = tmp_path / f".{config.cache_name()}.x.partial"
    leftover.mkdir()

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "render_frame", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate_shapes(tmp_path, config)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    assert generate_shapes(tmp_path, config)[0].is_file()


def test_unwritable_root_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=str(tmp_path / "file")):
        generate_shapes(tmp_path / "file", SMALL)


def test_many_may_ask_at_once(tmp_path, monkeypatch):
    """The lock belongs to an open file, so threads compete for it as processes do."""
    from vis_core.data.shapes import generate

    config = dataclasses.replace(SMALL, num_videos=1)
    made = []

    def counted(*args):
        made.append(args)
        make(*args)

    make = generate._generate
    monkeypatch.setattr(generate, "_generate", counted)
    with ThreadPoolExecutor(4) as pool:
        results = set(pool.map(lambda _: generate_shapes(tmp_path, config), range(4)))
    assert results == {shapes_paths(tmp_path, config)} and len(made) == 1
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [config.cache_name()]


def test_registered_set_is_made_when_first_loaded(tmp_path):
    name = "shapes_of_test_shapesvis"
    register_shapes(name, SMALL, tmp_path)
    try:
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == list(CATEGORIES) and metadata.evaluator_type == "ytvis"
        assert not any(tmp_path.iterdir())
        records = DatasetCatalog.get(name)
        assert [len(r["file_names"]) for r in records] == [6, 6, 6]
        assert (metadata.json_file, metadata.image_root) == tuple(map(str, shapes_paths(tmp_path, SMALL)))
        objects = [o for r in records for frame in r["annotations"] for o in frame]
        assert objects and all(0 <= o["category_id"] < len(CATEGORIES) for o in objects)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_standard_splits_are_registered():
    assert {"shapesvis_train", "shapesvis_val"} <= set(DatasetCatalog.list())
    assert SPLITS["shapesvis_train"].seed != SPLITS["shapesvis_val"].seed


@pytest.mark.parametrize(("corners", "tasks"), [("round", None), ("sharp", ("tube_mask", "tube_boundary"))])
def test_sharp_corners_are_evaluated_by_their_boundaries(corners, tasks):
    splits = [name for name, config in SPLITS.items() if config.corners == corners]
    assert len(splits) == 2
    assert [MetadataCatalog.get(name).get("evaluation_tasks") for name in splits] == [tasks, tasks]
