"""Reference frames that show the target's objects, and pairs made of one image."""

import itertools

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from fvcore.transforms.transform import HFlipTransform, NoOpTransform, TransformList
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vis_core.config import add_vis_config
from vis_core.data import PseudoClipMapper, VideoClipMapper
from vis_core.data.augmentation import build_clip_augmentation
from vis_core.data.clip_instances import clip_instances
from vis_core.data.clip_transforms import TurnedCopy, TurnTransform, augment_clip
from vis_core.data.references import serves_as_reference, shared_reference_frames, visible_by_class
from vis_core.data.resize import OpenCVResizeTransform
from vis_core.errors import ConfigError

H, W, K = 40, 60, 4


def config(**entries):
    cfg = get_cfg()
    add_vis_config(cfg)
    defaults = {
        "FORMAT": "RGB",
        "MIN_SIZE_TRAIN": (H,),
        "RANDOM_FLIP": "none",
        "SAMPLING_RULE": "reference",
        "SAMPLING_REFERENCE": "shared",
        "SAMPLING_FRAME_RANGE": 1000,
        "PSEUDO.MIN_SIZE_TRAIN": (H,),
        "PSEUDO.AUGMENTATIONS": ["turned_copy"],
    }
    for key, value in {**defaults, **entries}.items():
        cfg.merge_from_list(["INPUT." + key, value])
    return cfg


def square(track, category, left=10, top=10, side=8, **fields):
    pixels = np.zeros((H, W), np.uint8, order="F")
    pixels[top : top + side, left : left + side] = 1
    values = {"iscrowd": 0, "category_id": category, "id": track, "bbox": [left, top, side, side]}
    return {**values, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": coco_mask.encode(pixels), **fields}


def video(frames):
    """Record of frames given as lists of (track, class)."""
    annotations = [[square(*obj) for obj in frame] for frame in frames]
    return {"video_id": 1, "height": H, "width": W, "length": len(frames), "annotations": annotations}


# ------------------------------------------------------------------------------------------------ the rule

objects = st.dictionaries(st.integers(0, 4), st.integers(0, 2), max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    classes=st.lists(st.integers(0, 2), min_size=5, max_size=5), shown=st.lists(st.sets(st.integers(0, 4)), min_size=2)
)
def test_rule_against_its_words(classes, shown):
    record = video([[(track, classes[track]) for track in sorted(frame)] for frame in shown])
    for key in range(len(shown)):
        expected = []
        for t in range(len(shown)):
            shares_an_object = bool(shown[key] & shown[t])
            in_both = {classes[i] for i in shown[key]} & {classes[i] for i in shown[t]}
            complete = all(i in shown[t] for i in shown[key] if classes[i] in in_both)
            if t != key and shares_an_object and complete:
                expected.append(t)
        assert shared_reference_frames(record, key) == expected


def test_objects_that_do_not_count():
    """Crowds, and boxes without a whole pixel in the image."""
    record = video([[(1, 0)], [(1, 0)], [(1, 0)], [(1, 0), (2, 0)]])
    record["annotations"][1][0]["iscrowd"] = 1
    record["annotations"][2][0]["bbox"] = [5, 5, 0.5, 9]
    record["annotations"][3][1]["bbox"] = [-9, 5, 8, 9]
    assert shared_reference_frames(record, 0) == [3]
    assert shared_reference_frames(record, 3) == [0]
    assert shared_reference_frames(record, 1) == []


def test_nothing_serves_for_nothing():
    assert not serves_as_reference({}, {}) and not serves_as_reference({}, {0: {1}})


# ------------------------------------------------------------------------------------------------ clips of videos


@pytest.fixture
def record(tmp_path):
    record = video([[(1, 0), (2, 1)], [(1, 0)], [(3, 0), (2, 1)], [(2, 1)], []])
    record["file_names"] = [str(tmp_path / f"{t}.png") for t in range(record["length"])]
    for t, name in enumerate(record["file_names"]):
        Image.fromarray(np.random.RandomState(t).randint(1, 256, (H, W, 3)).astype(np.uint8)).save(name)
    return record


def test_references_of_a_clip(record):
    mapper = VideoClipMapper.from_config(config(), K)
    np.random.seed(0)
    drawn = {key: {tuple(mapper(record, frame=key)["frame_idx"]) for _ in range(30)} for key in range(5)}
    assert drawn[0] == {(0, 1), (0, 3)}  # frame 2 shows another object of class 0
    assert drawn[1] == {(1, 0)}
    assert drawn[2] == {(2, 3)}
    assert drawn[4] == {(4, 4)}, "the frame itself where none serves"
    assert {mapper(record)["frame_idx"][0] for _ in range(60)} == set(range(5))
    with pytest.raises(ConfigError, match="SAMPLING_REFERENCE 'best' is unknown"):
        PseudoClipMapper.from_config(config(SAMPLING_REFERENCE="best"), K)


# ------------------------------------------------------------------------------------------------ pairs of one image


def test_turned_copy_keeps_one_frame():
    image = np.random.RandomState(0).randint(1, 256, (H, W, 3)).astype(np.uint8)
    np.random.seed(0)
    kept = []
    for _ in range(40):
        results, transforms = augment_clip(TurnedCopy(15, (0.9, 1.1)), [image] * 3)
        same = [bool((r == image).all()) for r in results]
        assert sum(same) == 1 and [isinstance(t, NoOpTransform) for t in transforms] == same
        kept.append(same.index(True))
    assert set(kept) == {0, 1, 2}


def test_turned_copy_stays_within_its_limits():
    np.random.seed(0)
    matrices = []
    for _ in range(60):
        transform = TurnedCopy(15, (0.9, 1.1)).start_clip(2)
        matrices += [
            t.matrix for t in (transform(np.zeros((H, W, 3))) for _ in range(2)) if isinstance(t, TurnTransform)
        ]
    scales = [np.sqrt(np.linalg.det(m)) for m in matrices]
    angles = [np.rad2deg(np.arctan2(m[0, 1], m[0, 0])) for m in matrices]
    assert 0.9 <= min(scales) < 0.93 and 1.07 < max(scales) <= 1.1
    assert -15 <= min(angles) < -11 and 11 < max(angles) <= 15


@pytest.mark.parametrize(("angle", "scale"), [(0, 1), (90, 1), (180, 1), (13, 1.08), (-7, 0.92)])
def test_masks_and_points_follow_the_pixels(angle, scale):
    height, width = 41, 41
    mask = np.zeros((height, width), np.uint8)
    mask[12:20, 15:30] = 1
    transform = TurnTransform(height, width, angle, scale)
    turned = transform.apply_segmentation(mask)
    corners = transform.apply_coords(np.array([[15, 12], [30, 12], [30, 20], [15, 20]], dtype=float))
    drawn = coco_mask.decode(coco_mask.frPyObjects([corners.ravel().tolist()], height, width))[..., 0]
    assert (drawn != turned).sum() <= 0.12 * mask.sum() * scale**2
    image = np.repeat(mask[..., None] * 200, 3, axis=2)
    assert ((transform.apply_image(image)[..., 0] > 100) != turned).sum() <= 0.12 * mask.sum()
    if angle % 90 == 0 and scale == 1:
        assert (turned == np.rot90(mask, angle // 90)).all(), "counter-clockwise"


def test_a_copy_that_lost_objects_is_replaced(tmp_path):
    """One object in the middle, one of the same class in a corner that most turns cut off."""
    path = tmp_path / "image.png"
    Image.fromarray(np.random.RandomState(0).randint(1, 256, (H, W, 3)).astype(np.uint8)).save(path)
    corner = square(0, 1, left=W - 3, top=0, side=3)
    image = {"file_name": str(path), "height": H, "width": W, "image_id": 5}
    image["annotations"] = [square(0, 1, left=25, top=15), corner]
    np.random.seed(0)
    replaced = 0
    for _ in range(100):
        clip = PseudoClipMapper.from_config(config(**{"PSEUDO.ROTATE_ANGLE": 15.0}), K)(image)
        target, reference = (visible_by_class(frame) for frame in clip["instances"])
        assert target[1] <= reference[1]
        replaced += bool((clip["image"][0] == clip["image"][1]).all())
    assert 5 < replaced < 50  # about a fifth
    clip = PseudoClipMapper.from_config(config(SAMPLING_REFERENCE="any", **{"PSEUDO.ROTATE_ANGLE": 15.0}), K)(image)
    assert not (clip["image"][0] == clip["image"][1]).all()


def test_turned_copies_are_for_images_only():
    with pytest.raises(ConfigError, match=r"INPUT\.AUGMENTATIONS: 'turned_copy' is unknown"):
        build_clip_augmentation(config(AUGMENTATIONS=["turned_copy"]))


# ------------------------------------------------------------------------------------------------ boxes from pixels


@pytest.mark.parametrize(("scale", "mirrored"), itertools.product([0.5, 1, 2], [False, True]))
def test_boxes_from_the_first_to_the_last_pixel(scale, mirrored):
    size = int(H * scale), int(W * scale)
    steps = [OpenCVResizeTransform(H, W, *size)] + [HFlipTransform(size[1])] * mirrored
    obj = square(1, 0, left=10, top=8, side=6)
    (frame,) = clip_instances([[obj]], [TransformList(steps)], (H, W), [size], K, box_source="pixels")
    first, last = np.array([10, 8]) * scale, np.array([15, 13]) * scale
    if mirrored:  # early mmdetection mirrored pixel numbers: x to width - 1 - x
        first[0], last[0] = size[1] - 1 - last[0], size[1] - 1 - first[0]
    assert frame.gt_boxes.tensor.tolist() == [[*first, *(last + 1)]]


def test_boxes_from_pixels_stay_in_the_image():
    obj = square(1, 0, left=50, top=30, side=10) | {"bbox": [-5, -5, 80, 80]}
    (frame,) = clip_instances([[obj]], [NoOpTransform()], (H, W), [(H, W)], K, box_source="pixels")
    assert frame.gt_boxes.tensor.tolist() == [[0, 0, W + 1, H + 1]]
