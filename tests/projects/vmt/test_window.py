import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.vmt.window import SoftOverlap, link_objects, sliding_windows


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


def test_links_follow_masks_and_queries():
    queries = torch.eye(3)
    iou = torch.tensor([[0.1, 0.8], [0.7, 0.75], [0.0, 0.0]])
    # One to one: the greatest sum, not each object's best.
    assert link_objects(iou, queries, queries[:2] * 0, 1.0, 0.0, 0.3) == [1, 0, None]
    # Masks that cannot decide: queries do.
    assert link_objects(torch.full((2, 2), 0.5), queries[:2], queries[:2].flip(0), 1.0, 0.5, 0.3) == [1, 0]
    # Too little of both.
    assert link_objects(iou * 0.1, queries, -queries[:2], 1.0, 0.5, 0.3) == [None] * 3
    assert link_objects(torch.zeros(0, 2), queries[:0], queries[:2]) == []
    assert link_objects(torch.zeros(2, 0), queries[:2], queries[:0]) == [None, None]
