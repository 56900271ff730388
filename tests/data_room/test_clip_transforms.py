"""Clip augmentation: what frames share, what they do not, and that masks follow the pixels."""

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import transforms as T

from vis_core.config import add_vis_config
from vis_core.data.augmentation import build_clip_augmentation
from vis_core.data.clip_instances import picture_area, transformed_mask
from vis_core.data.clip_transforms import Chain, FlipByClip, MovingCrop, PerFrame, Resize, Sometimes, Spin, augment_clip
from vis_core.data.resize import fit_size, resize_transform
from vis_core.errors import ConfigError

NUM_FRAMES = 5


def picture(height=60, width=90):
    """Smooth and unsymmetric, so that resampling keeps it recognisable."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    channels = [2 * x + y, 255 - 2 * y, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)]
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def clip_shapes(augmentation, image=None):
    return [im.shape[:2] for im in augment_clip(augmentation, [picture() if image is None else image] * NUM_FRAMES)[0]]


def config(**entries):
    cfg = get_cfg()
    add_vis_config(cfg)
    cfg.merge_from_list([item for key, value in entries.items() for item in ("INPUT." + key.replace("__", "."), value)])
    return cfg


@pytest.mark.parametrize("style", ["choice", "range", "choice_by_clip", "range_by_clip"])
def test_resize_draws_by_frame_or_by_clip(style):
    np.random.seed(0)
    sizes = [30, 60] if style.startswith("range") else [30, 36, 42, 48, 54, 60]
    clips = [clip_shapes(Resize(sizes, 80, style)) for _ in range(20)]
    assert all(min(s) <= 60 and max(s) <= 80 for clip in clips for s in clip)
    assert len({clip[0] for clip in clips}) > 3
    shared = [len(set(clip)) == 1 for clip in clips]
    assert all(shared) if style.endswith("_by_clip") else not any(shared)


def test_size_zero_keeps_the_image():
    assert clip_shapes(Resize([0], 1333)) == [(60, 90)] * NUM_FRAMES


def test_flip_by_clip():
    np.random.seed(0)
    images = [picture()] * NUM_FRAMES
    flipped = []
    for _ in range(200):
        results, _ = augment_clip(FlipByClip(), images)
        flipped.append((results[0] == images[0][:, ::-1]).all())
        assert all((r == results[0]).all() for r in results)
    assert 70 < sum(flipped) < 130


def test_flip_after_resize_by_frame_keeps_coordinates_inside():
    """The decision is shared, the width to mirror about is each frame's own."""
    np.random.seed(0)
    for _ in range(20):
        results, transforms = augment_clip(Chain([Resize([30, 45, 60], 90), FlipByClip()]), [picture()] * NUM_FRAMES)
        for image, transform in zip(results, transforms):
            corners = transform.apply_coords(np.array([[0.0, 0.0], [90.0, 60.0]]))
            assert np.allclose(sorted(corners[:, 0]), [0, image.shape[1]])


def test_moving_crop_goes_one_way():
    np.random.seed(0)
    for _ in range(50):
        draw = MovingCrop("absolute_range", (20, 40)).start_clip(NUM_FRAMES)
        crops = [draw(picture()) for _ in range(NUM_FRAMES)]
        assert len({(c.w, c.h) for c in crops}) == 1 and 20 <= crops[0].w <= 40 and 20 <= crops[0].h <= 40
        xs, ys = [c.x0 for c in crops], [c.y0 for c in crops]
        assert min(xs) >= 0 and max(xs) + crops[0].w <= 90 and min(ys) >= 0 and max(ys) + crops[0].h <= 60
        assert (xs == sorted(xs) and ys == sorted(ys)) or (xs == sorted(xs)[::-1] and ys == sorted(ys)[::-1])


def test_still_crop_is_one_window():
    np.random.seed(0)
    results, _ = augment_clip(MovingCrop("absolute_range", (20, 40), still=True), [picture()] * NUM_FRAMES)
    assert all((r == results[0]).all() for r in results)


@pytest.mark.parametrize("pseudo", [False, True])
def test_uniform_crop_is_anywhere_and_the_same_in_all_frames(pseudo):
    np.random.seed(0)
    path = "PSEUDO.CROP." if pseudo else "CROP."
    entries = {"ENABLED": True, "PROB": 1.0, "MODE": "uniform", "TYPE": "absolute", "SIZE": (20, 30)}
    cfg = config(**{path + key: value for key, value in {**entries, "RESIZE_FIRST": ()}.items()})
    for node in (cfg.INPUT, cfg.INPUT.PSEUDO):
        node.MIN_SIZE_TRAIN, node.AUGMENTATIONS, cfg.INPUT.RANDOM_FLIP = (0,), [], "none"
    y, x = np.mgrid[:60, :90].astype(np.uint8)
    corners = []
    for _ in range(400):
        results, _ = augment_clip(build_clip_augmentation(cfg, pseudo), [np.stack([x, y, y], -1)] * NUM_FRAMES)
        assert all(r.shape[:2] == (20, 30) and (r == results[0]).all() for r in results)
        corners.append(results[0][0, 0, :2].tolist())
    assert np.allclose(np.mean(corners, axis=0), [(90 - 30) / 2, (60 - 20) / 2], atol=2.5)  # 3 deviations
    assert np.max(corners, axis=0).tolist() == [60, 40] and np.min(corners, axis=0).tolist() == [0, 0]


def test_crop_of_an_image_smaller_than_the_crop():
    np.random.seed(0)
    assert clip_shapes(MovingCrop("absolute_range", (384, 600))) == [(60, 90)] * NUM_FRAMES


def test_spin_turns_one_way_around_one_centre():
    np.random.seed(0)
    signs = []
    for _ in range(40):
        draw = Spin(15.0).start_clip(NUM_FRAMES)
        turns = [draw(picture()) for _ in range(NUM_FRAMES)]
        angles = [t.angle for t in turns]
        assert angles in (sorted(angles), sorted(angles)[::-1]) and max(map(abs, angles)) <= 15
        assert len({tuple(t.center) for t in turns}) == 1
        cx, cy = turns[0].center
        assert 36 <= cx <= 54 and 24 <= cy <= 36
        signs.append(angles[0] < angles[-1])
    assert 8 < sum(signs) < 32


def test_sometimes():
    np.random.seed(0)
    crop = MovingCrop("absolute", (20, 30))
    for prob in (0.0, 0.3, 1.0):
        for high in (False, True):
            cropped = [clip_shapes(Sometimes(crop, prob, high))[0] == (20, 30) for _ in range(300)]
            assert abs(np.mean(cropped) - prob) < 0.1
            assert prob == 0.3 or set(cropped) == {prob == 1.0}


def test_nothing_is_left_from_a_clip_that_failed():
    """An augmentation object has no memory: seeded alike it gives the same clip, whatever happened before."""
    augmentation = build_clip_augmentation(
        config(MIN_SIZE_TRAIN=(30, 40, 50), MIN_SIZE_TRAIN_SAMPLING="choice_by_clip", RANDOM_FLIP="flip_by_clip")
    )
    np.random.seed(7)
    expected = augment_clip(augmentation, [picture()] * NUM_FRAMES)[0]
    with pytest.raises(AttributeError):
        augment_clip(augmentation, [picture(), picture(), "not an image"])
    np.random.seed(7)
    again = augment_clip(augmentation, [picture()] * NUM_FRAMES)[0]
    assert all((a == b).all() for a, b in zip(expected, again))


PIPELINES = {
    "video": ({"AUGMENTATIONS": ["brightness", "rotation"], "RANDOM_FLIP": "flip_by_clip"}, False),
    "video crop": ({"CROP.ENABLED": True, "CROP.PROB": 1.0, "CROP.SIZE": (30, 50)}, False),
    "video crop, uniform": ({"CROP.ENABLED": True, "CROP.MODE": "uniform", "CROP.SIZE": (30, 50)}, False),
    "video crop by frame": ({"CROP.ENABLED": True, "CROP.MODE": "per_frame", "CROP.SIZE": (30, 50)}, False),
    "video crop after resize": ({"CROP.ENABLED": True, "CROP.RESIZE_FIRST": (50, 70), "CROP.SIZE": (30, 50)}, False),
    "video jitter": ({"LSJ_AUG.ENABLED": True, "LSJ_AUG.IMAGE_SIZE": 80, "LSJ_AUG.MIN_SCALE": 0.5}, False),
    "opencv": ({"RESIZE_BACKEND": "opencv"}, False),
    "pseudo": ({"RANDOM_FLIP": "vertical"}, True),
    "pseudo crop": (
        {"PSEUDO.CROP.ENABLED": True, "PSEUDO.CROP.RESIZE_FIRST": (70,), "PSEUDO.CROP.SIZE": (30, 50)},
        True,
    ),
    "pseudo jitter": ({"LSJ_AUG.ENABLED": True, "LSJ_AUG.IMAGE_SIZE": 80, "LSJ_AUG.MIN_SCALE": 0.5}, True),
}


@pytest.mark.parametrize("case", PIPELINES)
def test_masks_and_corners_follow_the_pixels(case):
    """A bright square in the image, its mask and its corners stay together through every pipeline."""
    np.random.seed(3)
    entries, pseudo = PIPELINES[case]
    sizes = {"MIN_SIZE_TRAIN": (40, 70), "PSEUDO.MIN_SIZE_TRAIN": (40, 70)}
    entries = {**sizes, "CROP.TYPE": "absolute_range", **entries}
    augmentation = build_clip_augmentation(config(**entries), pseudo)
    image, mask = np.zeros((60, 90, 3), np.uint8), np.zeros((60, 90), np.uint8)
    image[20:40, 30:60], mask[20:40, 30:60] = 255, 1
    compared = 0
    for _ in range(10):
        results, transforms = augment_clip(augmentation, [image] * NUM_FRAMES)
        for result, transform in zip(results, transforms):
            moved = transform.apply_segmentation(mask)
            assert moved.shape == result.shape[:2] and set(np.unique(moved)) <= {0, 1}
            # grey padding of the jitter (128) lies below, the square (dimmed to 0.9 at most) above
            bright = result[..., 0] > 180
            # masks are resized to the nearest pixel, twice where a crop is enlarged; the image's border counts as edge
            near = cv2.morphologyEx(np.pad(moved, 4), cv2.MORPH_GRADIENT, np.ones((7, 7)))[4:-4, 4:-4]
            assert (bright == moved.astype(bool))[near == 0].all()
            square = [[30, 20, 60, 20, 60, 40, 30, 40]]
            drawn = transformed_mask(square, transform, picture_area(transform, (60, 90)))
            assert (drawn == moved)[near == 0].all()
            compared += int(moved.any())
    assert compared > 10


def test_pseudo_clips_share_size_and_flip():
    cfg = config(RANDOM_FLIP="horizontal", **{"PSEUDO.MIN_SIZE_TRAIN": (40, 50, 60, 70), "PSEUDO.AUGMENTATIONS": []})
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN_SAMPLING = "choice"
    np.random.seed(0)
    for _ in range(10):
        results, _ = augment_clip(build_clip_augmentation(cfg, pseudo=True), [picture()] * NUM_FRAMES)
        assert all(r.shape == results[0].shape and (r == results[0]).all() for r in results)


def test_colours_differ_by_frame():
    np.random.seed(0)
    results, _ = augment_clip(
        build_clip_augmentation(config(AUGMENTATIONS=["contrast"], RANDOM_FLIP="none", MIN_SIZE_TRAIN=(60,))),
        [picture()] * NUM_FRAMES,
    )
    assert len({r.tobytes() for r in results}) == NUM_FRAMES


def test_opencv_backend():
    image = picture(72, 128)
    transform = resize_transform(72, 128, 36, 64, "opencv")
    assert (transform.apply_image(image) == cv2.resize(image, (64, 36), interpolation=cv2.INTER_LINEAR)).all()
    assert (transform.apply_image(image) != resize_transform(72, 128, 36, 64).apply_image(image)).any()
    assert np.allclose(transform.apply_coords(np.array([[128.0, 72.0]])), [[64, 36]])
    assert (transform.inverse().new_h, transform.inverse().new_w) == (72, 128)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((720, 1280), (360, 640)),
        ((480, 854), (360, 640)),
        ((480, 640), (360, 480)),
        ((1280, 720), (640, 360)),
        ((718, 1280), (359, 640)),
        ((406, 720), (360, 638)),
        ((1080, 608), (639, 360)),
    ],
)
def test_fit_size(size, expected):
    """mmdetection's sizes, as the specification of MaskTrack R-CNN lists them; Detectron2's rule agrees on these."""
    assert fit_size(*size, 360, 640) == expected
    assert T.ResizeShortestEdge.get_output_shape(*size, 360, 640) == expected


def test_fit_size_rounds_once():
    assert fit_size(61, 1280, 360, 640) == (31, 640)
    assert T.ResizeShortestEdge.get_output_shape(61, 1280, 360, 640) == (30, 640)


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"AUGMENTATIONS": ["sepia"]}, "INPUT.AUGMENTATIONS: 'sepia' is unknown"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "often"}, "MIN_SIZE_TRAIN_SAMPLING 'often' is unknown"),
        ({"MIN_SIZE_TRAIN_SAMPLING": "range", "MIN_SIZE_TRAIN": (1, 2, 3)}, "MIN_SIZE_TRAIN.*does not fit"),
        ({"RANDOM_FLIP": "diagonal"}, "RANDOM_FLIP 'diagonal' is unknown"),
        ({"RESIZE_BACKEND": "gimp"}, "RESIZE_BACKEND 'gimp' is unknown"),
        ({"CROP.ENABLED": True, "CROP.MODE": "wild"}, "CROP.MODE 'wild' is unknown"),
    ],
)
def test_unknown_values_are_reported(entries, message):
    with pytest.raises(ConfigError, match=message):
        build_clip_augmentation(config(**entries))


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"PSEUDO.AUGMENTATIONS": ["sepia"]}, "INPUT.PSEUDO.AUGMENTATIONS: 'sepia' is unknown"),
        ({"PSEUDO.MIN_SIZE_TRAIN_SAMPLING": "often"}, "INPUT.PSEUDO.MIN_SIZE_TRAIN_SAMPLING 'often' is unknown"),
        ({"PSEUDO.MIN_SIZE_TRAIN": ()}, "INPUT.PSEUDO.MIN_SIZE_TRAIN: .*does not fit"),
        ({"PSEUDO.CROP.ENABLED": True, "PSEUDO.CROP.MODE": "wild"}, "INPUT.PSEUDO.CROP.MODE 'wild' is unknown"),
    ],
)
def test_unknown_values_of_pseudo_videos_are_reported(entries, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        build_clip_augmentation(config(**entries), pseudo=True)


def test_per_frame_draws_once_a_frame():
    np.random.seed(0)
    _, transforms = augment_clip(PerFrame(T.RandomCrop("absolute", (20, 20))), [picture()] * NUM_FRAMES)
    assert len({(t.x0, t.y0) for t in transforms}) > 1
