"""Records -> clips: what is in them, and how broken images are reported."""

import random
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from PIL import Image

from vis_core.config import add_vis_config
from vis_core.data import PseudoClipMapper, TestMapper, VideoClipMapper
from vis_core.errors import ConfigError, DataError

H, W, T, K = 40, 60, 6, 3


def config(**entries):
    cfg = get_cfg()
    add_vis_config(cfg)
    defaults = {"FORMAT": "RGB", "MIN_SIZE_TRAIN": (H,), "RANDOM_FLIP": "none"}
    for key, value in {**defaults, **entries}.items():
        cfg.merge_from_list(["INPUT." + key, value])
    return cfg


def frame(t):
    return np.random.RandomState(t).randint(0, 256, (H, W, 3)).astype(np.uint8)


def box_object(track, x, **fields):
    pixels = np.zeros((H, W), np.uint8, order="F")
    pixels[10:20, x : x + 10] = 1
    values = {"iscrowd": 0, "category_id": 1, "id": track, "bbox": [x, 10, 10, 10], "bbox_mode": BoxMode.XYWH_ABS}
    return {**values, "segmentation": coco_mask.encode(pixels), **fields}


@pytest.fixture
def record(tmp_path):
    """Track 4 in all frames, track 9 in frames 2 and 3 only; frame 5 without anything usable."""
    names = [str(tmp_path / f"{t:03d}.png") for t in range(T)]
    for t, name in enumerate(names):
        Image.fromarray(frame(t)).save(name)
    annotations = [[box_object(4, 5 + 2 * t)] + ([box_object(9, 40)] if t in (2, 3) else []) for t in range(T)]
    annotations[5] = [box_object(4, 5, iscrowd=1)]
    return {
        "file_names": names,
        "height": H,
        "width": W,
        "length": T,
        "video_id": 12,
        "annotations": annotations,
    }


def test_clip_of_a_video(record):
    random.seed(0)
    np.random.seed(0)
    clip = VideoClipMapper.from_config(config(SAMPLING_FRAME_NUM=4, SAMPLING_FRAME_RANGE=1), K)(record, frame=3)
    assert len(clip["image"]) == len(clip["instances"]) == 4 and set(clip["frame_idx"]) == {2, 3, 4}
    for t, image, instances, name in zip(clip["frame_idx"], clip["image"], clip["instances"], clip["file_names"]):
        assert image.dtype == torch.uint8 and (image.numpy() == frame(t).transpose(2, 0, 1)).all()
        assert instances.gt_ids.tolist() == [4, 9 if t in (2, 3) else -1]
        assert name == record["file_names"][t]
    scalars = {key: clip[key] for key in ("height", "width", "length", "video_id", "video_len")}
    assert scalars == {"height": H, "width": W, "length": T, "video_id": 12, "video_len": T}


def test_channel_order(record):
    clip = VideoClipMapper.from_config(config(FORMAT="BGR", SAMPLING_FRAME_NUM=1), K)(record, frame=0)
    assert (clip["image"][0].numpy() == frame(0).transpose(2, 0, 1)[::-1]).all()


def test_key_frame_first_and_references_annotated(record):
    entries = {"SAMPLING_RULE": "reference", "SAMPLING_FRAME_RANGE": 100, "SAMPLING_REFERENCE": "annotated"}
    mapper = VideoClipMapper.from_config(config(**entries), K)
    np.random.seed(0)
    clips = [mapper(record, frame=2)["frame_idx"] for _ in range(60)]
    assert {clip[0] for clip in clips} == {2} and {clip[1] for clip in clips} == {0, 1, 3, 4}
    entries["SAMPLING_REFERENCE"] = "any"
    mapper = VideoClipMapper.from_config(config(**entries), K)
    assert {mapper(record, frame=2)["frame_idx"][1] for _ in range(80)} == {0, 1, 3, 4, 5}
    with pytest.raises(ConfigError, match="SAMPLING_REFERENCE 'best' is unknown"):
        VideoClipMapper.from_config(config(**{**entries, "SAMPLING_REFERENCE": "best"}), K)


def test_record_is_not_changed(record):
    before = repr(record)
    VideoClipMapper.from_config(config(AUGMENTATIONS=["rotation"]), K)(record)
    assert repr(record) == before


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "size"])
def test_broken_frames_are_named(record, kind):
    path = record["file_names"][3]
    if kind == "missing":
        record["file_names"][3] = path = path.replace("003", "gone")
    elif kind == "truncated":
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: len(data) // 2])
    elif kind == "text":
        Path(path).write_text("not an image")
    else:
        record["height"] = H + 2
    mapper = VideoClipMapper.from_config(config(SAMPLING_FRAME_NUM=1), K)
    with pytest.raises(DataError, match=r"video 12, frame 3") as e:
        mapper(record, frame=3)
    assert str(e.value).startswith(path) and "\n" not in str(e.value)
    if kind == "size":
        assert f"[{H}, {W}]" in str(e.value) and f"[{H + 2}, {W}]" in str(e.value)


def test_pseudo_clip(record):
    image = {
        "file_name": record["file_names"][0],
        "height": H,
        "width": W,
        "image_id": 77,
        "annotations": [box_object(0, 5), box_object(0, 30, iscrowd=1), box_object(0, 40, category_id=2)],
    }
    for annotation in image["annotations"]:
        del annotation["id"]
    entries = {"SAMPLING_FRAME_NUM": 5, "PSEUDO.MIN_SIZE_TRAIN": (H,), "PSEUDO.ROTATE_ANGLE": 8.0}
    mapper = PseudoClipMapper.from_config(config(**entries), K)
    random.seed(0)
    np.random.seed(0)
    lengths = set()
    for _ in range(30):
        clip = mapper(image)
        assert all(f.gt_ids.tolist() == [0, 1] and f.gt_classes.tolist() == [1, 2] for f in clip["instances"])
        assert len({im.numpy().tobytes() for im in clip["image"]}) == 5, "every copy is turned differently"
        assert clip["video_id"] == 77 and max(clip["frame_idx"]) < clip["video_len"]
        lengths.add(clip["video_len"])
    assert min(lengths) >= 16 and max(lengths) <= 48 and len(lengths) > 10


def test_pseudo_clip_of_a_video_frame(record):
    mapper = PseudoClipMapper.from_config(config(**{"PSEUDO.AUGMENTATIONS": [], "PSEUDO.MIN_SIZE_TRAIN": (H,)}), K)
    clip = mapper(record, frame=3)
    assert all((image.numpy() == frame(3).transpose(2, 0, 1)).all() for image in clip["image"])
    assert clip["instances"][0].gt_ids.tolist() == [0, 1] and clip["video_id"] == 12


def test_test_input_is_lazy(record):
    cfg = config(MIN_SIZE_TEST=H // 2, FORMAT="BGR")
    test_input = TestMapper(cfg)(record)
    assert set(test_input) == {"video_id", "height", "width", "length", "file_names", "image"}
    frames = test_input["image"]
    assert len(frames) == T and frames[-1].shape == (3, H // 2, W // 2)
    listed = list(frames)
    assert all((a == frames[t]).all() for t, a in enumerate(listed))
    cfg.INPUT.MIN_SIZE_TEST = 0
    for t, image in enumerate(TestMapper(cfg)(record)["image"]):
        assert image.dtype == torch.uint8 and (image.numpy() == frame(t).transpose(2, 0, 1)[::-1]).all()


def test_test_frame_of_another_size(record):
    Image.fromarray(frame(2)[:-3]).save(record["file_names"][2])
    read = []
    with pytest.raises(DataError, match=r"002\.png.*frame 2"):
        for image in TestMapper(config())(record)["image"]:
            read.append(image)
    assert len(read) == 2
    record["width"] = W + 1
    with pytest.raises(DataError, match=rf"000\.png.*\[{H}, {W}\].*annotation file says \[{H}, {W + 1}\]"):
        TestMapper(config())(record)["image"][0]


def test_test_format_is_checked(record):
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT 'L'"):
        TestMapper(config(FORMAT="L"))(record)
