"""Boundaries and intersections of masks of ordinary size against brute force on pixels."""

import numpy as np
import pytest

from vis_core.evaluation.boundary import band_width, boundaries
from vis_core.evaluation.tube_iou import quotient, tube_sums
from vis_core.evaluation.tubes import decode_tubes
from vis_core.rle import encode_dense


def random_masks(seed: int, height: int, width: int) -> np.ndarray:
    """Noise, smooth blobs, full, empty and a single pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    blobs = [
        np.hypot(rows - height * rng.random(), columns - width * rng.random()) < rng.uniform(0.2, 0.8) * height
        for _ in range(3)
    ]
    holes = blobs[0] & (rng.random((height, width)) > 0.002)
    pixel = (rows == height - 1) & (columns == 0)
    noise = [rng.random((height, width)) < share for share in (0.03, 0.5, 0.99)]
    return np.array([*blobs, holes, pixel, *noise, np.ones_like(pixel), np.zeros_like(pixel)])


def as_tubes(masks: np.ndarray):
    """One track per mask, one frame long."""
    size = list(masks.shape[1:])
    return decode_tubes([[{"size": size, "counts": counts}] for counts in encode_dense(masks)], str)


def draw(tubes, mask: int, height: int, width: int) -> np.ndarray:
    pixels = np.zeros(height * width, bool)
    for i in range(tubes.first[mask], tubes.first[mask + 1]):
        pixels[tubes.starts[i] : tubes.ends[i]] = True
    return pixels.reshape(width, height).T


@pytest.mark.parametrize("height, width, ratio", [(5, 7, 0.02), (70, 41, 0.02), (131, 90, 0.05), (64, 130, 0.2)])
def test_boundaries(height, width, ratio):
    masks = random_masks(0, height, width)
    tubes = boundaries(as_tubes(masks), ratio=ratio)
    d = band_width(height, width, ratio)
    padded = np.pad(masks, ((0, 0), (d, d), (d, d)))
    squares = np.lib.stride_tricks.sliding_window_view(padded, (2 * d + 1, 2 * d + 1), axis=(1, 2))
    expected = masks & ~squares.all(axis=(3, 4))
    for number, band in enumerate(expected):
        np.testing.assert_array_equal(draw(tubes, number, height, width), band)
    np.testing.assert_array_equal(tubes.areas, expected.sum(axis=(1, 2)))


def test_only_the_wanted_boundaries():
    masks = random_masks(1, 30, 40)
    wanted = np.arange(len(masks)) % 2 == 0
    everything, some = boundaries(as_tubes(masks)), boundaries(as_tubes(masks), wanted)
    np.testing.assert_array_equal(some.areas, np.where(wanted, everything.areas, 0))


@pytest.mark.parametrize(
    "height, width, d", [(720, 1280, 29), (360, 640, 15), (480, 854, 20), (1080, 1920, 44), (96, 128, 3)]
)
def test_band_width(height, width, d):
    assert band_width(height, width) == d


@pytest.mark.parametrize("height, width", [(1, 1), (9, 200), (70, 41)])
def test_sums_of_all_pairs(height, width):
    detections, objects = random_masks(2, height, width), random_masks(3, height, width)
    begins = np.array([0, len(detections)]), np.array([0, len(objects)])
    common, total = tube_sums(as_tubes(detections), as_tubes(objects), *begins)
    shape = (len(detections), len(objects))
    np.testing.assert_array_equal(common.reshape(shape), np.einsum("dhw,ghw->dg", detections * 1, objects * 1))
    union = (detections[:, None] | objects[None]).sum(axis=(2, 3))
    np.testing.assert_array_equal(total.reshape(shape), union)
    assert quotient(common, total).max() <= 1


def test_separate_intervals_that_touch_are_one():
    """Runs of length zero are legal; the masks they describe have no seam."""
    whole = {"size": [6, 1], "counts": [1, 5]}
    seam = {"size": [6, 1], "counts": [1, 2, 0, 3]}
    tubes = decode_tubes([[whole], [seam]], str)
    assert np.diff(tubes.first).tolist() == [1, 1] and tubes.areas.tolist() == [5, 5]
