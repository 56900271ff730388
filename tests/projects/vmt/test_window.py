import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.vmt.window import QueryMemory, SoftOverlap, link_objects, pair_affinity, sliding_windows


def listed(num_frames, length, overlap):
    return [(w.start, list(w.frames), w.first, w.stop) for w in sliding_windows(range(num_frames), length, overlap)]


def test_windows_of_a_video():
    assert listed(7, 4, 2) == [(0, [0, 1, 2, 3], 0, 3), (2, [2, 3, 4, 5], 3, 5), (3, [3, 4, 5, 6], 5, 7)]


@pytest.mark.parametrize("length", [0, 5, 6])
def test_one_window_if_the_video_is_not_longer(length):
    assert listed(5, length, 2) == [(0, [0, 1, 2, 3, 4], 0, 5)]
    assert listed(0, length, 2) == []


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(2, 12), st.data())
def test_every_frame_is_decided_once_by_a_window_that_shows_it(num_frames, length, data):
    overlap = data.draw(st.integers(1, length - 1))
    decided, before = [], None
    for start, frames, first, stop in listed(num_frames, length, overlap):
        assert frames == list(range(start, start + min(length, num_frames)))
        assert start <= first < stop <= start + len(frames)
        decided += range(first, stop)
        if before is not None:
            assert before + length - start >= overlap  # frames shared with the window before
        before = start
    assert decided == list(range(num_frames))


class Frame:
    """Something a weak reference can point to."""


def test_no_more_frames_than_a_window_are_kept():
    alive = []

    def frames():
        for _ in range(40):
            frame = Frame()
            alive.append(weakref.ref(frame))
            yield frame
            del frame
            assert sum(ref() is not None for ref in alive) <= 6

    assert sum(w.stop - w.first for w in sliding_windows(frames(), 6, 2)) == 40


def test_overlap_of_hard_masks_is_their_iou():
    masks = torch.tensor([[[1.0, 1, 0, 0]], [[0, 0, 1, 1]]])
    others = torch.tensor([[[1.0, 1, 1, 0]]])
    overlap = SoftOverlap()
    overlap.add(masks, others)
    overlap.add(masks, masks[:1])
    assert torch.allclose(overlap.iou(), torch.tensor([[4 / 5], [1 / 8]], dtype=torch.float64), atol=1e-6)


def links(iou, queries, others, iou_weight=1.0, query_weight=0.5):
    affinity = pair_affinity(iou, queries, others, iou_weight, query_weight)
    return link_objects(affinity, torch.ones(len(queries)), torch.ones(len(others)), threshold=0.3)


def test_links_follow_masks_and_queries():
    queries = torch.eye(3)
    iou = torch.tensor([[0.1, 0.8], [0.7, 0.75], [0.0, 0.0]])
    # One to one: the greatest sum, not each object's best.
    assert links(iou, queries, queries[:2] * 0, 1.0, 0.0) == [1, 0, None]
    # Masks that cannot decide: queries do.
    assert links(torch.full((2, 2), 0.5), queries[:2], queries[:2].flip(0)) == [1, 0]
    # Too little of both.
    assert links(iou * 0.1, queries, -queries[:2]) == [None] * 3
    assert links(torch.zeros(0, 2), queries[:0], queries[:2]) == []
    assert links(torch.zeros(2, 0), queries[:2], queries[:0]) == [None, None]


def test_sure_objects_are_linked_to_sure_ones():
    """Both clips found the object, and an unsure double of it that overlaps a little more."""
    affinity = torch.tensor([[0.80, 0.85], [0.85, 0.80]])
    scores = torch.tensor([0.9, 0.02])
    assert link_objects(affinity, scores, scores, confidence=0.0) == [1, 0]
    assert link_objects(affinity, scores, scores, confidence=0.25) == [0, 1]


def test_threshold_is_the_least_affinity_whatever_the_scores():
    affinity = torch.tensor([[0.3, 0.0], [0.0, 0.29]], dtype=torch.float64)
    assert link_objects(affinity, torch.full((2,), 1e-3), torch.full((2,), 1e-3), threshold=0.3) == [0, None]


def test_pair_below_the_threshold_counts_nothing():
    """Two good pairs are not given up for a better one that needs a pair that would be undone."""
    affinity = torch.tensor([[0.9, 0.50], [0.50, 0.29]], dtype=torch.float64)
    assert link_objects(affinity, torch.ones(2), torch.ones(2), threshold=0.3) == [1, 0]


def test_objects_come_back_by_their_last_query():
    memory = QueryMemory(threshold=0.8)
    axes = torch.eye(4)
    memory.see([0, 1], axes[:2])
    assert memory.recall([None, 1], axes[:2]) == [None, 1]  # 0 was there a clip before: links speak for it
    memory.see([2, 1], axes[1:3])
    almost = axes[0] + 0.5 * axes[3]  # cosine 0.89
    assert memory.recall([2, None, None, None], torch.stack([axes[0], almost, axes[0], axes[3]])) == [2, None, 0, None]
    assert memory.recall([None], almost[None]) == [0]
    assert memory.recall([None], (axes[0] + axes[3])[None]) == [None]  # cosine 0.71
    assert memory.recall([], axes[:0]) == []


@pytest.mark.parametrize("capacity", [0, 3])
def test_memory_keeps_the_latest_objects_only(capacity):
    memory = QueryMemory(capacity, threshold=0.8)
    axes = torch.eye(40)
    for id_ in range(30):
        memory.see([id_], axes[id_ : id_ + 1])
    memory.see([0], axes[:1])  # back again
    found = [memory.recall([None], axes[id_ : id_ + 1])[0] for id_ in range(30)]
    assert found == [id_ if 30 - capacity <= id_ else None for id_ in range(30)]
