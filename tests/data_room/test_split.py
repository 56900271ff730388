"""Splits: every video once, sizes as asked for, classes spread, the same for the same seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.data.split import part_of, split_videos
from vis_core.errors import DataError


def data_of(classes_by_video):
    annotations = [
        {"id": i, "video_id": video + 1, "category_id": category}
        for i, (video, category) in enumerate(
            (video, category) for video, classes in enumerate(classes_by_video) for category in classes
        )
    ]
    return {"videos": [{"id": i + 1} for i in range(len(classes_by_video))], "annotations": annotations, "info": 1}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=3, max_size=40),
    st.sampled_from([(0.8, 0.2), (0.6, 0.2, 0.2), (0.99, 0.01)]),
    st.integers(0, 5),
)
def test_every_video_is_in_one_part_and_parts_have_their_size(classes_by_video, shares, seed):
    data = data_of(classes_by_video)
    parts = split_videos(data, shares, seed)
    assert sorted(number for part in parts for number in part) == [video["id"] for video in data["videos"]]
    for part, share in zip(parts, shares):
        assert part and abs(len(part) - share * len(classes_by_video)) <= len(shares)
    assert split_videos(data, shares, seed) == parts


def test_rare_classes_are_spread():
    # Two of 20 videos have the rare class; by chance both would often be in one part.
    data = data_of([[1], [1, 2]] * 8 + [[1], [1, 3], [1], [1, 3]])
    for seed in range(20):
        parts = split_videos(data, (0.5, 0.5), seed)
        for part in parts:
            counts = Counter(entry["category_id"] for entry in part_of(data, part)["annotations"])
            assert counts[3] == 1 and counts[2] == 4 and counts[1] == 10


def test_seeds_differ():
    data = data_of([[1]] * 12)
    assert len({tuple(split_videos(data, (0.5, 0.5), seed)[0]) for seed in range(5)}) > 1


def test_a_part_keeps_all_else():
    part = part_of(data_of([[1], [2]]), [2])
    assert part["info"] == 1 and [entry["category_id"] for entry in part["annotations"]] == [2]


def test_too_few_videos():
    with pytest.raises(DataError, match="2 videos cannot be split into 3 parts"):
        split_videos(data_of([[1], [1]]), (0.5, 0.3, 0.2))
