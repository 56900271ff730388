"""Frame sampling: what every rule promises, over many seeds and video lengths."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.data.sampling import (
    ClipSampling,
    sample_consecutive,
    sample_neighbours,
    sample_reference,
    sample_stride,
    sample_window,
)
from vis_core.errors import ConfigError

lengths, seeds = st.integers(1, 40), st.integers(0, 2**31)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)


@settings(max_examples=100, deadline=None)
@given(length=lengths, num=st.integers(1, 8), radius=st.integers(0, 12), interval=st.integers(1, 5), seed=seeds)
def test_window(length, num, radius, interval, seed):
    seed_all(seed)
    ref = random.randrange(length)
    frames = sample_window(length, num, radius, interval, ref)
    assert len(frames) == num and frames == sorted(frames) and ref in frames
    others = list(frames)
    others.remove(ref)
    reachable = [t for t in range(length) if interval <= abs(t - ref) <= radius]
    assert set(others) <= set(reachable or [ref])


@settings(max_examples=100, deadline=None)
@given(length=lengths, num=st.integers(3, 8), seed=seeds)
def test_neighbours(length, num, seed):
    seed_all(seed)
    ref = random.randrange(length)
    frames = sample_neighbours(length, num, ref)
    assert len(frames) == num and frames == sorted(frames) and ref in frames
    assert frames[0] >= 0 and frames[-1] < length
    others = [t for t in frames if t != ref]
    if 0 < ref < length - 1:
        assert any(ref - 3 <= t < ref for t in others) and any(ref < t <= ref + 3 for t in others)


@settings(max_examples=100, deadline=None)
@given(length=lengths, num=st.integers(1, 8), seed=seeds)
def test_consecutive(length, num, seed):
    seed_all(seed)
    frames = sample_consecutive(length, num)
    if length >= num:
        assert frames == list(range(frames[0], frames[0] + num))
        assert frames[-1] < max(length - 1, num), "the last window is only used where it is the only one"
    else:
        assert frames[:length] == list(range(length)) and len(frames) == num
        assert set(frames) == set(range(length))


def test_consecutive_backwards_half_of_the_time():
    seed_all(0)
    backwards = sum(frames[0] > frames[-1] for frames in (sample_consecutive(20, 5, True) for _ in range(400)))
    assert 160 < backwards < 240


@settings(max_examples=100, deadline=None)
@given(length=lengths, num=st.integers(1, 4), radius=st.integers(1, 12), seed=seeds)
def test_reference(length, num, radius, seed):
    seed_all(seed)
    key = random.randrange(length)
    candidates = [t for t in range(length) if random.random() < 0.5]
    frames = sample_reference(length, num, radius, key, candidates)
    assert frames[0] == key and len(frames) == num
    allowed = {t for t in candidates if t != key and abs(t - key) <= radius}
    assert set(frames[1:]) <= (allowed or {key})


def test_reference_is_uniform():
    seed_all(1)
    counts = np.bincount([sample_reference(9, 2, 3, key=4)[1] for _ in range(6000)], minlength=9)
    assert (counts[[0, 4, 8]] == 0).all()
    assert np.abs(counts[[1, 2, 3, 5, 6, 7]] - 1000).max() < 150


def test_stride():
    seed_all(0)
    assert {sample_stride(10, 0.3)[0] for _ in range(100)} == {0, 3, 6}
    assert sample_stride(9, 0.05) == [4], "a single frame is the middle one"


def test_shuffle_keeps_the_frames():
    seed_all(5)
    ordered = ClipSampling(6, 10)(30)
    seed_all(5)
    shuffled = ClipSampling(6, 10, shuffle=True)(30)
    assert sorted(shuffled) == ordered != shuffled


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num": 0}, "SAMPLING_FRAME_NUM is 0"),
        ({"rule": "nearest"}, "SAMPLING_RULE 'nearest' is unknown; known: window"),
        ({"rule": "neighbours"}, "needs SAMPLING_FRAME_NUM 3"),
        ({"ratio": 0.5}, "SAMPLING_FRAME_RATIO below 1"),
        ({"rule": "reference", "shuffle": True}, "key frame comes first"),
    ],
)
def test_contradictions_are_reported(settings, message):
    with pytest.raises(ConfigError, match=message):
        ClipSampling(**{"num": 2, "radius": 5, **settings})
