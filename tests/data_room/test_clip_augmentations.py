"""Photometric distortion and warped copies: what changes, what must not, and that masks and boxes follow the pixels."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

import projects
from vis_core.config import add_vis_config, merge_config
from vis_core.data.augmentation import build_clip_augmentation
from vis_core.data.clip_instances import picture_area, transformed_mask
from vis_core.data.clip_transforms import augment_clip
from vis_core.data.mapper import augmented_clip
from vis_core.data.photometric import PhotometricDistortion, motion_blur_kernel, shift_colors
from vis_core.data.seeding import seeded
from vis_core.data.warped_copy import LARGEST_INSET, HomographyTransform, WarpedCopy, perspective_matrix
from vis_core.errors import ConfigError

H, W, NUM_FRAMES = 60, 90, 5
CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs"


def config(**entries):
    cfg = get_cfg()
    add_vis_config(cfg)
    sizes = {"MIN_SIZE_TRAIN": (H,), "PSEUDO.MIN_SIZE_TRAIN": (H,), "RANDOM_FLIP": "none"}
    for key, value in {**sizes, **entries}.items():
        cfg.merge_from_list(["INPUT." + key, value])
    return cfg


def picture():
    return np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)


def square():
    image, mask = np.zeros((H, W, 3), np.uint8), np.zeros((H, W), np.uint8)
    image[20:40, 30:60], mask[20:40, 30:60] = 255, 1
    return image, mask


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_photometric_draws_by_frame_and_leaves_masks(channels):
    image, (_, mask) = picture(), square()
    with seeded(0):
        results, transforms = augment_clip(PhotometricDistortion(channels), [image] * 40)
    unchanged = [bool((r == image).all()) for r in results]
    assert 0 < sum(unchanged) < 8, "all five gates are shut once in 32 frames"
    assert len({r.tobytes() for r in results}) > 30
    assert all(r.dtype == np.uint8 and r.shape == image.shape and r.flags.c_contiguous for r in results)
    assert all((t.apply_segmentation(mask) == mask).all() for t in transforms)
    assert all((t.apply_box(np.array([[30.0, 20, 60, 40]])) == [30, 20, 60, 40]).all() for t in transforms)


def test_photometric_permutes_channels_half_the_time():
    """Grey levels that differ by channel, too far apart to change places otherwise with all channels scaled alike."""
    image = np.zeros((2, 2, 3), np.uint8) + np.array([60, 100, 140], np.uint8)
    with seeded(1):
        results, _ = augment_clip(PhotometricDistortion("RGB"), [image] * 400)
    orders = {tuple(np.argsort(r[0, 0])) for r in results}
    kept = sum(tuple(np.argsort(r[0, 0])) == (0, 1, 2) for r in results)
    # 1/2 are not permuted, and 1/6 of the others stay as they are; a hue's turn of up to 36 degrees exchanges few.
    assert len(orders) == 6 and 170 < kept < 280


def test_a_drawn_transform_does_the_same_each_time():
    image = picture()
    for augmentation in (PhotometricDistortion("RGB"), WarpedCopy(20, 0.1, 0.08, 1.0, (9, 11))):
        results, transforms = augment_clip(augmentation, [image] * NUM_FRAMES)
        assert all((t.apply_image(image) == r).all() for t, r in zip(transforms, results))


def test_clips_follow_from_the_seed():
    augmentation = build_clip_augmentation(config(**{"PSEUDO.AUGMENTATIONS": ["warped_copy", "photometric"]}), True)
    clips = []
    for seed in (5, 5, 6):
        with seeded(seed):
            clips.append(np.stack(augment_clip(augmentation, [picture()] * NUM_FRAMES)[0]))
    assert (clips[0] == clips[1]).all() and (clips[0] != clips[2]).any()


def test_shift_colors():
    image = np.array([[[10, 250, 100]]], np.uint8)
    assert shift_colors(image, brightness=20).tolist() == [[[30, 255, 120]]]
    assert shift_colors(image, brightness=-20).tolist() == [[[0, 230, 80]]]
    red = np.array([[[200, 100, 100]]], np.uint8)
    r, g, b = shift_colors(red, hue_saturation=5)[0, 0].astype(int)
    assert r == 200 and b < 100 and g > b, "more saturated, and turned from red towards yellow"
    r, g, b = shift_colors(red, hue_saturation=-5)[0, 0].astype(int)
    assert r == 200 and b > g > 100, "paler, and turned past 0 towards magenta"


def test_motion_blur_kernel():
    upright = motion_blur_kernel(9, 0.0, 0.5)
    assert np.allclose(upright[:, 4], 1 / 9) and np.isclose(upright.sum(), 1)
    lying = motion_blur_kernel(9, 90.0, 0.5)
    assert np.allclose(lying, upright.T, atol=1e-3)
    fading = motion_blur_kernel(11, 0.0, 0.0)[:, 5]
    assert (np.diff(fading) > 0).all() and fading[0] == 0


def test_perspective_stretches_the_quadrilateral():
    insets = np.array([[0.1, 0.2], [0.05, 0.0], [0.1, 0.1], [0.0, 0.15]])
    transform = HomographyTransform(H, W, perspective_matrix(insets, H, W))
    seen = np.array([[0.1 * W, 0.2 * H], [0.95 * W, 0], [0.9 * W, 0.9 * H], [0, 0.85 * H]])
    assert np.allclose(transform.apply_coords(seen), [[0, 0], [W, 0], [W, H], [0, H]], atol=1e-3)
    assert transform.apply_segmentation(np.ones((H, W), np.uint8)).all(), "no border comes into sight"
    same = HomographyTransform(H, W, perspective_matrix(np.zeros((4, 2)), H, W))
    assert (same.apply_image(picture()) == picture()).all()


def test_no_part_of_an_image_gets_behind_the_horizon():
    corners = np.array([[0, 0, 1], [W, 0, 1], [W, H, 1], [0, H, 1]])
    for extreme in itertools.product([0.0, LARGEST_INSET], repeat=8):
        insets = np.reshape(extreme, (4, 2))
        assert ((corners @ perspective_matrix(insets, H, W).T)[:, 2] > 0).all()


def test_one_frame_stays_in_its_place_and_all_others_change():
    image, places = picture(), set()
    with seeded(0):
        for _ in range(20):
            results, _ = augment_clip(WarpedCopy(20, 0.1, 0.08, 0.25, (9, 11)), [image] * NUM_FRAMES)
            same = [bool((r == image).all()) for r in results]
            assert sum(same) == 1 and len({r.tobytes() for r in results}) == NUM_FRAMES
            places.add(same.index(True))
    assert places == set(range(NUM_FRAMES))


def test_motion_stays_within_its_limits():
    middle = np.array([[W / 2, H / 2], [W, H / 2]])
    with seeded(0):
        _, transforms = augment_clip(WarpedCopy(20, 0.1, 0.0, 0.0, ()), [picture()] * 200)
    moved = np.stack([t.apply_coords(middle) for t in transforms])  # (200, 2, 2)
    shift = np.abs(moved[:, 0] - middle[0]) / (W, H)
    along = moved[:, 1] - moved[:, 0]
    angle = np.abs(np.rad2deg(np.arctan2(along[:, 1], along[:, 0])))
    assert (shift <= 0.1 + 1e-9).all() and (shift.max(0) > 0.09).all()
    assert 18 < angle.max() <= 20 + 1e-9 and np.allclose(np.linalg.norm(along, axis=1), W / 2)


@pytest.mark.parametrize("crop", [False, True])
def test_masks_polygons_and_boxes_follow_the_pixels(crop):
    image, mask = square()
    entries = {
        "PSEUDO.AUGMENTATIONS": ["warped_copy"],
        "PSEUDO.ROTATE_ANGLE": 20.0,
        "PSEUDO.BLUR_PROB": 0.0,
        "PSEUDO.CROP.ENABLED": crop,
        "PSEUDO.CROP.PROB": 1.0,
        "PSEUDO.CROP.RESIZE_FIRST": (),
        "PSEUDO.CROP.SIZE": (40, 55),
    }
    augmentation = build_clip_augmentation(config(**entries), pseudo=True)
    compared = 0
    with seeded(0):
        for _ in range(6):
            results, transforms = augment_clip(augmentation, [image] * NUM_FRAMES)
            for result, transform in zip(results, transforms):
                moved = transform.apply_segmentation(mask)
                near = cv2.morphologyEx(np.pad(moved, 3), cv2.MORPH_GRADIENT, np.ones((5, 5)))[3:-3, 3:-3]
                # the square is at least 215 bright, its surroundings at most 40
                assert ((result[..., 1] > 128) == moved.astype(bool))[near == 0].all()
                polygon = [[30, 20, 60, 20, 60, 40, 30, 40]]
                drawn = transformed_mask(polygon, transform, picture_area(transform, (H, W)))
                assert (drawn == moved)[near == 0].all()
                compared += int(moved.any() and not moved.all())
    assert compared > 4 * 6, "more frames than the images that stay"


def test_instances_of_warped_copies():
    image, mask = square()
    objects = [
        {
            "id": 0,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [30, 20, 30, 20],
            "bbox_mode": BoxMode.XYWH_ABS,
            "segmentation": coco_mask.encode(np.asfortranarray(mask)),
        }
    ]
    cfg = config(**{"PSEUDO.AUGMENTATIONS": ["warped_copy", "photometric"]})
    with seeded(2):
        images, instances = augmented_clip(
            [image] * NUM_FRAMES, [objects] * NUM_FRAMES, build_clip_augmentation(cfg, pseudo=True), 3, "mask"
        )
    boxes = [tuple(frame.gt_boxes.tensor[0].tolist()) for frame in instances]
    assert len(images) == NUM_FRAMES and (30, 20, 60, 40) in boxes and len(set(boxes)) == NUM_FRAMES
    for frame, box in zip(instances, boxes):
        ys, xs = np.nonzero(frame.gt_masks.tensor[0].numpy())
        assert box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_nothing_new_by_default_and_all_of_it_for_vmt():
    cfg = projects.default_config()
    assert cfg.INPUT.AUGMENTATIONS == [] and cfg.INPUT.PSEUDO.AUGMENTATIONS == ["rotation"]
    for name in ("ytvis19_r50", "hq_ytvis_swinl"):
        cfg = projects.default_config()
        merge_config(cfg, str(CONFIGS / "vmt" / f"{name}.yaml"))
        assert cfg.INPUT.AUGMENTATIONS == ["photometric"]
        assert cfg.INPUT.PSEUDO.AUGMENTATIONS == ["warped_copy", "photometric"]
        kinds = [type(a) for a in build_clip_augmentation(cfg, pseudo=True).augmentations]
        assert kinds[0] is WarpedCopy and PhotometricDistortion in kinds
        assert PhotometricDistortion in [type(a) for a in build_clip_augmentation(cfg).augmentations]


def test_bad_values_are_reported():
    with pytest.raises(ConfigError, match=r"INPUT\.AUGMENTATIONS: 'warped_copy' is unknown"):
        build_clip_augmentation(config(AUGMENTATIONS=["warped_copy"]))
    entries = {"PSEUDO.AUGMENTATIONS": ["warped_copy"], "PSEUDO.BLUR_SIZES": (8,)}
    with pytest.raises(ConfigError, match=r"INPUT\.PSEUDO\.BLUR_SIZES \[8\]: one or more odd numbers"):
        build_clip_augmentation(config(**entries), pseudo=True)
