from unittest import mock

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image, ImageOps


def image(h, w, channels=3, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (h, w, channels), dtype=np.uint8)


# ---- resizing


def test_uint8_is_resized_by_pillow():
    x = image(30, 40)
    expected = np.asarray(Image.fromarray(x).resize((17, 11), Image.BILINEAR))
    np.testing.assert_array_equal(T.ResizeTransform(30, 40, 11, 17).apply_image(x), expected)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((6, 8), np.uint8),
        ((6, 8, 1), np.uint8),
        ((6, 8, 3), np.uint8),
        ((6, 8), np.float32),
        ((6, 8, 3), np.float32),
        ((6, 8, 2, 2), np.float64),
    ],
)
def test_resize_keeps_the_layout(shape, dtype):
    x = np.full(shape, 7, dtype=dtype)
    y = T.ResizeTransform(6, 8, 3, 4).apply_image(x)
    assert y.shape == (3, 4, *shape[2:]) and y.dtype == dtype
    assert (y == 7).all()


def test_resize_takes_flipped_views():
    x = image(20, 24).astype(np.float32)[:, ::-1]
    resize = T.ResizeTransform(20, 24, 10, 12)
    np.testing.assert_allclose(resize.apply_image(x), resize.apply_image(x.copy()))


def test_segmentations_get_no_new_labels():
    labels = np.array([[0, 255], [7, 100]], dtype=np.uint8).repeat(9, 0).repeat(9, 1)
    resized = T.ResizeTransform(18, 18, 13, 40).apply_segmentation(labels)
    assert resized.shape == (13, 40)
    assert set(np.unique(resized)) == {0, 7, 100, 255}


def test_resize_scales_boxes_and_inverts():
    resize = T.ResizeTransform(20, 40, 10, 60)
    box = np.array([[4.0, 2.0, 20.0, 10.0]])
    np.testing.assert_allclose(resize.apply_box(box.copy()), [[6, 1, 30, 5]])
    np.testing.assert_allclose(resize.inverse().apply_box(resize.apply_box(box.copy())), box)


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((720, 1280), 360, 640, (360, 640)),
        ((100, 1000), 50, 200, (20, 200)),  # the longer side limits
        ((1000, 100), 50, 200, (200, 20)),
        ((64, 64), 33, 100, (33, 33)),
        ((2, 5), 3, 100, (3, 8)),  # 7.5 is rounded up
    ],
)
def test_shortest_edge_size(size, short, longest, expected):
    assert T.ResizeShortestEdge.get_output_shape(*size, short, longest) == expected
    resized, _ = T.apply_augmentations([T.ResizeShortestEdge(short, longest)], image(*size))
    assert resized.shape[:2] == expected


def test_shortest_edge_draws_each_length():
    np.random.seed(0)
    chosen = [T.ResizeShortestEdge([10, 20], 99, "choice").get_transform(image(30, 40)).new_h for _ in range(30)]
    assert set(chosen) == {10, 20}
    ranged = [T.ResizeShortestEdge([10, 12], 99, "range").get_transform(image(30, 40)).new_h for _ in range(60)]
    assert set(ranged) == {10, 11, 12}


def test_shortest_edge_zero_does_nothing():
    assert isinstance(T.ResizeShortestEdge(0, 100, "choice").get_transform(image(8, 8)), T.NoOpTransform)


def test_shortest_edge_checks_its_arguments():
    with pytest.raises(AssertionError):
        T.ResizeShortestEdge([1, 2, 3], 10, "range")
    with pytest.raises(AssertionError):
        T.ResizeShortestEdge([1, 2], 10, "range_by_clip")


# ---- cropping


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [("relative", (0.5, 0.25), (20, 15)), ("absolute", (10, 12), (10, 12)), ("absolute", (99, 12), (40, 12))],
)
def test_crop_of_fixed_size(kind, size, expected):
    x = image(40, 60)
    cropped, transforms = T.apply_augmentations([T.RandomCrop(kind, size)], x)
    assert cropped.shape[:2] == expected
    crop = transforms[0]
    np.testing.assert_array_equal(cropped, x[crop.y0 : crop.y0 + crop.h, crop.x0 : crop.x0 + crop.w])


@pytest.mark.parametrize(
    ("kind", "size", "low", "high"),
    [("relative_range", (0.5, 0.5), (20, 30), (40, 60)), ("absolute_range", (10, 50), (10, 10), (40, 50))],
)
def test_crop_of_random_size(kind, size, low, high):
    np.random.seed(1)
    sizes = np.array([T.RandomCrop(kind, size).get_crop_size((40, 60)) for _ in range(200)])
    assert (sizes >= low).all() and (sizes <= high).all()
    assert len(np.unique(sizes[:, 0])) > 5 and len(np.unique(sizes[:, 1])) > 5


def test_crop_avoids_one_category_where_it_can():
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[:, 30:] = 1
    np.random.seed(0)
    augmentation = T.RandomCrop_CategoryAreaConstraint("absolute", (10, 10), 0.95)
    hits = 0
    for _ in range(50):
        inputs = T.AugInput(image(40, 40), sem_seg=labels)
        augmentation(inputs)
        hits += len(np.unique(inputs.sem_seg)) == 2
    # a blind crop shows both with probability 9 / 31, one of ten tries with 0.97
    assert hits > 40


def test_crop_ignores_a_category():
    labels = np.full((20, 20), 255, dtype=np.uint8)
    labels[:2] = 1
    crop = T.RandomCrop_CategoryAreaConstraint("absolute", (5, 5), 0.5, ignored_category=255)
    with mock.patch("numpy.random.randint", wraps=np.random.randint) as draws:
        crop(T.AugInput(image(20, 20), sem_seg=labels))
    assert draws.call_count == 20  # ten tries of two draws: no crop holds two categories that count


@pytest.mark.parametrize(("h", "w"), [(20, 90), (90, 20), (20, 20), (90, 90)])
def test_fixed_size_crop(h, w):
    inputs = T.AugInput(image(h, w).clip(0, 100), sem_seg=np.zeros((h, w), dtype=np.uint8))
    T.FixedSizeCrop((50, 40), pad_value=128, seg_pad_value=255)(inputs)
    assert inputs.image.shape == (50, 40, 3) and inputs.sem_seg.shape == (50, 40)
    kept = np.zeros((50, 40), dtype=bool)
    kept[: min(h, 50), : min(w, 40)] = True
    np.testing.assert_array_equal(inputs.sem_seg == 0, kept)
    np.testing.assert_array_equal((inputs.image == 128).all(axis=2), ~kept)


def test_fixed_size_crop_without_padding():
    cropped, _ = T.apply_augmentations([T.FixedSizeCrop((50, 40), pad=False)], image(20, 90))
    assert cropped.shape == (20, 40, 3)


def test_resize_scale_fits_the_target():
    np.random.seed(0)
    for _ in range(20):
        resize = T.ResizeScale(0.5, 2.0, 60, 60).get_transform(image(40, 80))
        assert 29 <= resize.new_w <= 120 and abs(resize.new_w - 2 * resize.new_h) <= 1


# ---- flipping, rotating


def test_flip_probability():
    np.random.seed(0)
    flips = [type(T.RandomFlip(0.3).get_transform(image(4, 4))) for _ in range(400)]
    assert 80 < flips.count(T.HFlipTransform) < 160
    assert flips.count(T.HFlipTransform) + flips.count(T.NoOpTransform) == 400


def test_flip_direction():
    x = image(5, 7)
    flipped, _ = T.apply_augmentations([T.RandomFlip(1.0, horizontal=False, vertical=True)], x)
    np.testing.assert_array_equal(flipped, x[::-1])
    for both_or_none in (True, False):
        with pytest.raises(ValueError):
            T.RandomFlip(horizontal=both_or_none, vertical=both_or_none)


@pytest.mark.parametrize("angle", [0, 90, 180, 270, 360])
@pytest.mark.parametrize(("h", "w"), [(20, 20), (20, 33)])
def test_right_angles_are_exact(angle, h, w):
    x = image(h, w)
    rotation = T.RotationTransform(h, w, angle)
    np.testing.assert_array_equal(rotation.apply_image(x), np.rot90(x, angle // 90))


def test_rotation_moves_coordinates_with_the_pixels():
    x = np.zeros((60, 80), dtype=np.float32)
    x[10:13, 50:53] = 1
    rotation = T.RotationTransform(60, 80, 33)
    rotated = rotation.apply_image(x)
    assert rotated.shape == (rotation.bound_h, rotation.bound_w)
    ys, xs = np.nonzero(rotated > 0.2)
    weights = rotated[ys, xs]
    centre = np.array([np.average(xs + 0.5, weights=weights), np.average(ys + 0.5, weights=weights)])
    np.testing.assert_allclose(rotation.apply_coords(np.array([[51.5, 11.5]]))[0], centre, atol=0.1)


def test_rotation_around_a_point_leaves_it_there():
    rotation = T.RotationTransform(60, 80, 33, expand=False, center=(20, 30))
    np.testing.assert_allclose(rotation.apply_coords(np.array([[20.0, 30.0]])), [[20, 30]])
    assert rotation.apply_image(image(60, 80)).shape == (60, 80, 3)
    with pytest.raises(NotImplementedError):
        rotation.inverse()


def test_rotation_inverse():
    rotation = T.RotationTransform(41, 61, 25)
    points = np.array([[0.0, 0.0], [61.0, 41.0], [12.0, 30.0]])
    back = rotation.inverse().apply_coords(rotation.apply_coords(points))
    np.testing.assert_allclose(back, points, atol=1.0)  # to the pixel, since the canvas is whole pixels


def test_rotation_of_labels_is_nearest():
    labels = (np.arange(900).reshape(30, 30) // 300 * 100).astype(np.uint8)
    assert set(np.unique(T.RotationTransform(30, 30, 37).apply_segmentation(labels))) == {0, 100, 200}


def test_random_rotation_draws():
    np.random.seed(3)
    angles = [T.RandomRotation([-10, 10]).get_transform(image(9, 9)).angle for _ in range(50)]
    assert min(angles) < -5 and max(angles) > 5 and max(np.abs(angles)) <= 10
    chosen = {T.RandomRotation([15, 30], sample_style="choice").get_transform(image(9, 9)).angle for _ in range(30)}
    assert chosen == {15, 30}
    assert isinstance(T.RandomRotation(360).get_transform(image(9, 9)), T.NoOpTransform)


# ---- colours


def test_blends_leave_the_image_at_weight_one():
    x = image(8, 9)
    for augmentation in (T.RandomBrightness, T.RandomContrast, T.RandomSaturation):
        np.testing.assert_array_equal(augmentation(1.0, 1.0).get_transform(x).apply_image(x), x)


def test_blends_at_weight_zero():
    x = image(8, 9)

    def blended(augmentation):
        return augmentation(0.0, 0.0).get_transform(x).apply_image(x)

    assert (blended(T.RandomBrightness) == 0).all()
    assert (blended(T.RandomContrast) == int(x.mean())).all()
    grey = blended(T.RandomSaturation)
    assert (grey == grey[:, :, :1]).all()
    np.testing.assert_allclose(grey[:, :, 0], x @ [0.299, 0.587, 0.114], atol=1)


def test_lighting_shifts_all_pixels_alike():
    x = np.full((4, 5, 3), 128.0, dtype=np.float32)
    np.random.seed(0)
    y = T.RandomLighting(50).get_transform(x).apply_image(x)
    assert (y == y[0, 0]).all() and not (y == x).any()
    assert (T.RandomLighting(0).get_transform(x).apply_image(x) == x).all()


def test_colour_functions():
    x = image(9, 10)
    double = T.ColorTransform(lambda i: i.astype(np.float32) * 2)
    np.testing.assert_array_equal(double.apply_image(x), x.astype(np.float32) * 2)
    assert double.apply_segmentation(x) is x and isinstance(double.inverse(), T.NoOpTransform)
    pillow = T.PILColorTransform(lambda i: ImageOps.invert(i))
    np.testing.assert_array_equal(pillow.apply_image(x), 255 - x)
    with pytest.raises(ValueError):
        T.ColorTransform("no function")


# ---- the machinery


class TakesLabels(T.Augmentation):
    def __init__(self, new_size):
        super().__init__()
        self._init(locals())

    def get_transform(self, image, sem_seg):
        assert image.shape[:2] == sem_seg.shape
        return T.ResizeTransform(*sem_seg.shape, self.new_size, self.new_size)


def test_augmentations_see_what_came_before():
    inputs = T.AugInput(image(20, 30), sem_seg=np.zeros((20, 30), dtype=np.uint8), boxes=np.array([[3.0, 2.0, 9, 8]]))
    transforms = inputs.apply_augmentations([TakesLabels(10), T.HFlipTransform(10), TakesLabels(5)])
    assert inputs.image.shape == (5, 5, 3) and inputs.sem_seg.shape == (5, 5)
    assert [type(t) for t in transforms.transforms] == [T.ResizeTransform, T.HFlipTransform, T.ResizeTransform]
    assert transforms[2].h == 10
    np.testing.assert_allclose(inputs.boxes, [[(10 - 3) / 2, 0.5, (10 - 1) / 2, 2]])


def test_missing_inputs_are_named():
    class Asks(T.Augmentation):
        def get_transform(self, image, depth):
            return T.NoOpTransform()

    with pytest.raises(AttributeError, match="depth"):
        T.apply_augmentations([Asks()], image(4, 4))


def test_apply_augmentations_returns_what_it_got():
    x, inputs = image(6, 8), T.AugInput(image(6, 8))
    out, transforms = T.apply_augmentations([T.Resize((3, 4))], x)
    assert isinstance(out, np.ndarray) and out.shape == (3, 4, 3) and len(transforms) == 1
    out, _ = T.apply_augmentations([T.Resize(5)], inputs)
    assert out is inputs and inputs.image.shape == (5, 5, 3)


def test_lists_hold_only_augmentations_and_transforms():
    with pytest.raises(AssertionError):
        T.AugmentationList([lambda x: x])


def test_text():
    assert str(TakesLabels(new_size=3)) == "TakesLabels(new_size=3)"
    assert str(T.RandomFlip(prob=0.2)) == "RandomFlip(prob=0.2)"
    assert str(T.AugmentationList([T.RandomFlip(), T.HFlipTransform(4)])) == (
        "AugmentationList[RandomFlip(), HFlipTransform(width=4)]"
    )


@pytest.mark.parametrize("spec", [T.Augmentation, T.Transform])
@pytest.mark.parametrize(("draw", "applied"), [(0.1, True), (0.9, False)])
def test_random_apply(spec, draw, applied):
    inner = T.RandomFlip(1.0) if spec is T.Augmentation else T.VFlipTransform(4)
    augmentation = T.RandomApply(inner, prob=0.5)
    with mock.patch.object(augmentation, "_rand_range", return_value=draw):
        chosen = augmentation.get_transform(image(4, 4))
        result = T.AugInput(image(4, 4))
        augmentation(result)
    expected = {T.Augmentation: T.HFlipTransform, T.Transform: T.VFlipTransform}[spec] if applied else T.NoOpTransform
    assert type(chosen) is expected
    assert (result.image == image(4, 4)).all() != applied


@pytest.mark.parametrize("prob", [-0.1, 1.1])
def test_random_apply_needs_a_probability(prob):
    with pytest.raises(AssertionError):
        T.RandomApply(T.RandomFlip(), prob=prob)


def test_older_names():
    assert T.TransformGen is T.Augmentation
    assert T.StandardAugInput is T.AugInput
    assert T.apply_transform_gens is T.apply_augmentations
