"""Category lists, file layouts, records and clips against what the originals' code gave (fixtures/datasets)."""

import json
import random
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import root
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from PIL import Image

from vis_core.config import add_vis_config
from vis_core.data import (
    ClipSampling,
    PseudoClipMapper,
    TestMapper,
    VideoClipMapper,
    categories,
    load_coco_json,
    load_ytvis_json,
)
from vis_core.data.builtin import BUILTIN_SPLITS

FOLDER = root() / "datasets"
LISTS = {
    "categories_ytvis_2019.json": categories.YTVIS_2019,
    "categories_ytvis_2021.json": categories.YTVIS_2021,
    "categories_ovis.json": categories.OVIS,
    "categories_davis_uvos.json": categories.DAVIS,
}
CLIP_FILES = sorted(FOLDER.glob("**/clip_expected.json"))
SIZE = (60, 80)  # of the frames, and the clip mapper's setting, by the fixtures' README
CLIP_RADIUS = 3


def read(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module", params=CLIP_FILES, ids=lambda p: p.parent.name)
def clip(request, tmp_path_factory):
    """Expected values, the annotation file, and the frames by the README's recipe: (dict, path, folder)."""
    expected, folder = read(request.param), tmp_path_factory.mktemp("frames")
    gt_file = request.param.with_name("clip_gt.json")
    names = [name for video in read(gt_file)["videos"] for name in video["file_names"]]
    for name in [*names, expected["pseudo_input"]["file_name"].removeprefix("root/")]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        stream = np.random.RandomState(1000 * int(path.parent.name) + int(path.stem))
        # png, whatever the name says: the pixels have to survive
        Image.fromarray(stream.randint(0, 256, (*SIZE, 3)).astype(np.uint8)).save(path, format="PNG")
    return expected, gt_file, folder


def config(entries=None, **sampling):
    cfg = get_cfg()
    add_vis_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    for key, value in sampling.items():
        cfg.INPUT[key] = value
    cfg.merge_from_list([item for pair in (entries or {}).items() for item in pair])
    return cfg


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)


# ------------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize("path", [p for p in sorted(FOLDER.glob("categories_*.json")) if p.name in LISTS], ids=str)
def test_category_lists(path):
    entries, ours = read(path)["categories"], LISTS[path.name]
    assert list(ours.names) == [e["name"] for e in entries]
    assert list(ours.ids) == [e["id"] for e in entries]
    for entry, color in zip(entries, ours.colors):
        assert list(color) == entry.get("color", list(color))


def test_coco_maps():
    for name, entries in read(FOLDER / "coco_to_vis_maps.json").items():
        assert getattr(categories, name) == {e["coco_id"]: e["target_id"] for e in entries}
        target = getattr(categories, name.removeprefix("COCO_TO_"))
        assert all(target.names[e["target_id"] - 1] == e["target_name"] for e in entries)


def test_file_layouts():
    """The place where each project looks for a split is among ours."""
    splits = read(FOLDER / "splits.json")
    checked = 0
    for project, names in splits["registered"].items():
        for name, place in names.items():
            # a note says where a project's name means something else
            if name in BUILTIN_SPLITS and name not in splits["registered_notes"].get(project, ""):
                assert place["json"] in BUILTIN_SPLITS[name].json_files, (project, name)
                assert place["images"] in BUILTIN_SPLITS[name].image_roots, (project, name)
                checked += 1
    assert checked > 0


# ------------------------------------------------------------------------------------------------ records


def test_records(clip):
    expected, gt_file, _ = clip
    ours = load_ytvis_json(gt_file, "root")
    for record in ours:
        for obj in (obj for frame in record["annotations"] for obj in frame):
            if isinstance(obj["segmentation"], dict) and isinstance(obj["segmentation"]["counts"], bytes):
                obj["segmentation"]["counts"] = obj["segmentation"]["counts"].decode()
            obj["generate"] = False  # the original marks generated tracks; nothing reads it
    assert ours == expected["records"]


def test_metadata(clip):
    expected, gt_file, _ = clip
    name = f"parity_{gt_file.parent.name}"
    load_ytvis_json(gt_file, "root", name)
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == expected["meta"]["thing_classes"]
    ids = {str(k): v for k, v in metadata.thing_dataset_id_to_contiguous_id.items()}
    assert ids == expected["meta"]["id_map"]


# ------------------------------------------------------------------------------------------------ sampling


def test_sampling(clip):
    for case in clip[0]["sampling"]:
        sampling = ClipSampling(case["num"], case["range"], shuffle=case["shuffle"])
        seed_all(case["seed"])
        frames = sampling(case["length"])
        if isinstance(case["frame_idx"], str):  # where the original raises we repeat frames
            assert len(frames) == case["num"] and set(frames) <= set(range(case["length"]))
        else:
            assert frames == case["frame_idx"], case


def test_video_of_one_frame(clip):
    """The original raises an error; the frame is repeated instead."""
    for setting in clip[0]["length_1_video"]:
        num = int(setting.removeprefix("num="))
        assert ClipSampling(num, 10)(1) == [0] * num


# ------------------------------------------------------------------------------------------------ clips


def by_track(instances):
    """Rows of a clip: {track id: [(visible, class, box, mask pixels) a frame]}, and the classes of nameless rows."""
    rows = list(zip(*[list(zip(f["gt_ids"], f["gt_classes"], f["gt_boxes"], f["mask_sums"])) for f in instances]))
    tracks, nameless = {}, Counter()
    for row in rows:
        ids = {track for track, *_ in row} - {-1}
        assert len(ids) <= 1, "rows are aligned over the frames"
        values = [(track >= 0, *rest) for track, *rest in row]
        if ids:
            tracks[ids.pop()] = values
        else:  # an object of which nothing is left in any frame
            nameless[tuple(category for _, category, *_ in values)] += 1
    return tracks, nameless


def as_lists(clip):
    return [
        {
            "gt_ids": f.gt_ids.tolist(),
            "gt_classes": f.gt_classes.tolist(),
            "gt_boxes": f.gt_boxes.tensor.tolist(),
            "mask_sums": f.gt_masks.tensor.flatten(1).sum(1).tolist(),
        }
        for f in clip["instances"]
    ]


def assert_same_objects(ours, expected, num_classes, box_tolerance, mask_tolerance):
    (ours, our_rest), (expected, rest) = by_track(ours), by_track(expected)
    assert ours.keys() == expected.keys()
    for track in ours:
        for mine, theirs in zip(ours[track], expected[track]):
            assert mine[:2] == theirs[:2]
            assert np.abs(np.subtract(mine[2], theirs[2])).max() <= box_tolerance
            assert abs(mine[3] - theirs[3]) <= mask_tolerance
    # The original keeps a row without class for crowd regions; ours leaves them out.
    assert all(set(classes) == {num_classes} for classes in rest - our_rest)
    assert not our_rest - rest


def test_clips(clip):
    expected, gt_file, folder = clip
    records = {r["video_id"]: r for r in load_ytvis_json(gt_file, folder)}
    record, num_classes = records[min(records)], len(expected["meta"]["thing_classes"])
    for case in expected["mapper"]:
        out = case["out"]
        sampling = {"SAMPLING_FRAME_NUM": len(out["frame_idx"]), "SAMPLING_FRAME_RANGE": CLIP_RADIUS}
        cfg = config(case["cfg"], **sampling)
        seed_all(case["seed"])
        ours = VideoClipMapper.from_config(cfg, num_classes)(record)
        assert ours["frame_idx"] == out["frame_idx"] and ours["video_len"] == out["video_len"]
        assert [list(image.shape) for image in ours["image"]] == out["image_shapes"]
        original_pixels = not cfg.INPUT.AUGMENTATIONS and {tuple(s) for s in out["image_shapes"]} == {(3, *SIZE)}
        if original_pixels:  # else they depend on the builds of Pillow and OpenCV
            assert [zlib.crc32(image.numpy().tobytes()) for image in ours["image"]] == out["image_crc32"]
        tolerance = 0 if original_pixels else 2
        assert_same_objects(as_lists(ours), out["instances"], num_classes, tolerance, tolerance)


def test_test_mode(clip):
    expected, gt_file, folder = clip
    out = expected["mapper_test_mode"]
    names = [name.removeprefix("root/") for name in out["file_names"]]
    record = next(
        r for r in load_ytvis_json(gt_file, folder) if r["file_names"] == [str(folder / name) for name in names]
    )
    ours = TestMapper(config({"INPUT.MIN_SIZE_TEST": min(out["image_shapes"][0][1:])}))(record)
    assert [list(image.shape) for image in ours["image"]] == out["image_shapes"]
    assert ours["height"] == out["height"] and ours["length"] == len(names)


def test_pseudo_clips(clip, tmp_path):
    expected, _, folder = clip
    record = pseudo_record(expected, folder, tmp_path)
    num_classes = len(expected["meta"]["thing_classes"])
    cases = expected["pseudo"]
    num = len(cases[0]["out"]["frame_idx"])

    def clips(radius):
        for case in cases:
            cfg = config(case["cfg"], SAMPLING_FRAME_NUM=num, SAMPLING_FRAME_RANGE=radius)
            seed_all(case["seed"])
            yield PseudoClipMapper.from_config(cfg, num_classes)(record)

    # The fixture does not name the sampling range of these runs: it is the one that gives all their frames.
    expected_frames = [case["out"]["frame_idx"] for case in cases]
    radius = next(r for r in range(1, 49) if [c["frame_idx"] for c in clips(r)] == expected_frames)
    for case, ours in zip(cases, clips(radius)):
        out = case["out"]
        assert ours["video_len"] == out["video_len"]
        assert [list(image.shape) for image in ours["image"]] == out["image_shapes"]
        # the original's boxes are those of the polygons, ours of the drawn masks
        assert_same_objects(as_lists(ours), out["instances"], num_classes, box_tolerance=1, mask_tolerance=2)


def pseudo_record(expected, folder, tmp_path):
    """The image of the fixture, through our own COCO loader."""
    given = expected["pseudo_input"]
    coco = read(FOLDER / "categories_coco_things.json")["categories"]
    target = next(
        n
        for n in ("YTVIS_2019", "YTVIS_2021", "OVIS")
        if list(getattr(categories, n).names) == expected["meta"]["thing_classes"]
    )
    image = {"id": given["image_id"], "file_name": given["file_name"].removeprefix("root/")}
    image.update(height=given["height"], width=given["width"])
    annotations = [
        {**a, "id": i, "image_id": given["image_id"], "category_id": coco[a["category_id"]]["id"]}
        for i, a in enumerate(given["annotations"])
    ]
    content = {"images": [image], "annotations": annotations, "categories": coco}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    class_map = {k: v - 1 for k, v in getattr(categories, f"COCO_TO_{target}").items()}
    return load_coco_json(tmp_path / "coco.json", folder, class_map=class_map)[0]
