import numpy as np
import pytest
import torch
from torch.nn import functional as F

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.tracking import UNMATCHED, bisoftmax, cosine_similarity, greedy_association, optimal_association


def test_bisoftmax():
    rs = np.random.RandomState(0)
    embeds, references = (torch.from_numpy(rs.standard_normal((n, 8))) for n in (4, 3))
    logits = embeds @ references.T
    expected = (logits.exp() / logits.exp().sum(1, keepdim=True) + logits.exp() / logits.exp().sum(0)) / 2
    torch.testing.assert_close(bisoftmax(embeds, references), expected)


def test_a_lone_detection_is_at_least_half_of_every_track():
    embeds = torch.tensor([[1.0, 0.0]])
    assert (bisoftmax(embeds, torch.tensor([[-50.0, 0.0], [-60.0, 1.0]])) >= 0.5).all()


def test_cosine_similarity():
    rs = np.random.RandomState(1)
    embeds, references = (torch.from_numpy(rs.standard_normal((n, 8))) for n in (4, 3))
    expected = F.cosine_similarity(embeds[:, None], references[None], dim=2)
    torch.testing.assert_close(cosine_similarity(embeds, references), expected)


def test_greedy_serves_in_order():
    affinity = np.array([[0.9, 0.1], [0.95, 0.4], [0.2, 0.8]])
    # Row 1 likes track 0 better than row 0 does, but comes later.
    assert greedy_association(affinity, 0.3) == [0, 1, UNMATCHED]


def test_greedy_needs_more_than_the_threshold():
    assert greedy_association(np.array([[0.3]]), 0.3) == [UNMATCHED]
    assert greedy_association(np.array([[0.31]]), 0.3) == [0]


def test_greedy_gives_a_track_once_whatever_the_threshold():
    assert greedy_association(np.array([[0.1], [0.05]]), -0.5) == [0, UNMATCHED]


def test_greedy_prefers_tracks_of_long_standing():
    affinity = np.array([[0.5, 0.4, 0.2]])
    frames = np.array([1, 10, 1000])
    assert greedy_association(affinity, 0.3) == [0]
    # Track 2 is not eligible: it weighs as much as the mean of the others, 5.5, and 0.2 * 5.5 < 0.4 * 10.
    assert greedy_association(affinity, 0.3, frames) == [1]


def test_greedy_ignores_frames_where_only_one_track_is_eligible():
    assert greedy_association(np.array([[0.5, 0.29]]), 0.3, np.array([1, 1000])) == [0]


def test_greedy_does_not_change_its_input():
    affinity = np.array([[0.9, 0.1], [0.8, 0.4]])
    greedy_association(affinity, 0.3)
    assert affinity.tolist() == [[0.9, 0.1], [0.8, 0.4]]


def test_optimal_maximises_the_total():
    affinity = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert greedy_association(affinity, 0.05) == [0, 1]
    assert optimal_association(affinity, 0.05) == [1, 0]


def test_optimal_drops_poor_pairs_and_leaves_surplus_rows():
    assert optimal_association(np.array([[0.9, 0.1], [0.2, 0.25], [0.4, 0.3]]), 0.3) == [0, UNMATCHED, 1]


@pytest.mark.parametrize("associate", [greedy_association, optimal_association])
def test_without_tracks_or_detections(associate):
    assert associate(np.zeros((2, 0), dtype=np.float32), 0.3) == [UNMATCHED, UNMATCHED]
    assert associate(np.zeros((0, 3), dtype=np.float32), 0.3) == []
