"""Interpolation: at the keyframes it is the keyframes, and polygons keep their outline's order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.data.formats.keyframes import Shape, between, fill_frames, matched
from vis_core.data.formats.regions import polygon_rle


def ring(seed, count):
    """A simple polygon: corners around a middle, in order, beginning anywhere."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(10, 30, (count, 1)) + (40, 35)
    return np.roll(points.round(1), rng.integers(count), axis=0)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(3, 9))
def test_polygons_are_themselves_at_both_ends(seed, count, other_count):
    first, second = ring(seed, count), ring(seed + 1, other_count)
    a, b = matched(first, second)
    assert len(a) == len(b) >= max(count, other_count)
    assert {tuple(p) for p in a} == {tuple(p) for p in first} and {tuple(p) for p in b} == {tuple(p) for p in second}
    left, right = Shape("polygon", first), Shape("polygon", second)
    for share, shape in ((0.0, first), (1.0, second)):
        points = between(left, right, share).points
        assert polygon_rle(points, 70, 80, "") == polygon_rle(shape, 70, 80, "")


def test_frames_between_before_and_after():
    square = np.array([[0.0, 0.0], [2.0, 2.0]])
    keys = {2: Shape("box", square), 4: Shape("box", square + 4), 6: None, 8: Shape("box", square)}
    shapes = fill_frames(keys, list(range(10)))
    assert {t: shape.points[0, 0] for t, shape in shapes.items()} == {2: 0, 3: 2, 4: 4, 5: 4, 8: 0, 9: 0}
    assert fill_frames({}, [0, 1]) == {}


def test_steps_over_keyframes_and_turns_take_the_shorter_way():
    square = np.array([[0.0, 0.0], [2.0, 2.0]])
    left, right = Shape("box", square, degrees=350), Shape("box", square + 10, degrees=20)
    shapes = fill_frames({0: left, 10: right}, [0, 5, 15])
    assert shapes[5].points[0, 0] == 5 and shapes[5].degrees == 365 and shapes[15] is right


def test_masks_stay_until_the_next():
    masks = [Shape("mask", patch=np.ones((1, 1), bool)), Shape("mask", patch=np.zeros((1, 1), bool))]
    assert between(*masks, 0.9) is masks[0]
    assert between(masks[0], Shape("box", np.zeros((2, 2))), 0.9) is masks[0]
