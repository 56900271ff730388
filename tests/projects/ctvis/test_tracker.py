import pytest
import torch

from projects.ctvis.tracker import CTVISTracker, select_queries
from vis_core.errors import ConfigError

FAR = 20.0  # so that a dot product of unlike embeddings is negligible in a softmax


def frame(objects, num_queries=5, num_classes=3, size=(8, 20)):
    """Logits, masks and embeds of queries; objects: {query: (probability-like logit, direction)}, each 4 wide."""
    logits = torch.full((num_queries, num_classes + 1), -10.0)
    logits[:, -1] = 10.0
    masks = torch.full((num_queries, *size), -5.0)
    embeds = torch.zeros(num_queries, 4)
    for place, (query, (score, direction)) in enumerate(objects.items()):
        logits[query, 0], logits[query, -1] = score, 0.0
        masks[query, :, 4 * place : 4 * place + 4] = 5.0
        embeds[query, direction] = FAR
    return logits, masks, embeds


def test_selection_sorts_and_suppresses():
    logits, masks, _ = frame({1: (1.0, 0), 3: (3.0, 1), 4: (2.0, 2)})
    masks[4] = masks[3]
    queries, scores = select_queries(logits, masks, 0.01, 0.6)
    assert queries.tolist() == [3, 1]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_the_best_query_is_selected_even_below_the_threshold():
    logits, masks, _ = frame({})
    logits[2, 1] = -9.0
    queries, scores = select_queries(logits, masks, 0.01, 0.6)
    assert queries.tolist() == [2] and scores.item() < 0.01


def test_identities_follow_embeddings():
    tracker = CTVISTracker()
    first = tracker.step(*frame({0: (3.0, 0), 1: (2.0, 1)}))
    assert (first.queries, first.ids) == ([0, 1], [0, 1])
    second = tracker.step(*frame({4: (2.0, 0), 2: (3.0, 1), 3: (1.0, 2)}))
    assert (second.queries, second.ids) == ([2, 4, 3], [1, 0, 2])
    assert tracker.bank.num_frames == [2, 2, 1]


def test_nothing_begins_below_the_threshold():
    tracker = CTVISTracker(select_threshold=0.0, init_threshold=0.6)
    out = tracker.step(*frame({0: (3.0, 0), 1: (0.0, 1)}))
    assert (out.queries, out.ids) == ([0], [0])
    # Below the threshold a track may be continued all the same.
    assert tracker.step(*frame({1: (0.0, 0)})).ids == [0]


def test_a_lone_detection_goes_to_a_track_however_unlike():
    tracker = CTVISTracker()
    tracker.step(*frame({0: (3.0, 0), 1: (2.0, 1)}))
    assert tracker.step(*frame({0: (3.0, 3)})).ids in ([0], [1])


def test_by_cosine_it_does_not():
    tracker = CTVISTracker(metric="cosine")
    tracker.step(*frame({0: (3.0, 0), 1: (2.0, 1)}))
    assert tracker.step(*frame({0: (3.0, 3)})).ids == [2]


def test_a_forgotten_object_gets_a_new_identity():
    tracker = CTVISTracker(metric="cosine", num_dead_frames=2)
    ids = [tracker.step(*frame(objects)).ids for objects in [{0: (3.0, 0)}, {}, {}, {}, {0: (3.0, 0)}]]
    assert ids == [[0], [], [], [], [1]]
    tracker.reset()
    ids = [tracker.step(*frame(objects)).ids for objects in [{0: (3.0, 0)}, {}, {}, {0: (3.0, 0)}]]
    assert ids == [[0], [], [], [0]]


def test_half_precision_is_tracked_in_single():
    tracker, half = CTVISTracker(), CTVISTracker()
    for objects in ({0: (3.0, 0), 1: (2.0, 1)}, {2: (2.0, 1), 3: (3.0, 0)}):
        inputs = frame(objects)
        assert half.step(*(x.bfloat16() for x in inputs)) == tracker.step(*inputs)
    assert half.bank.fused.dtype == torch.float32


@pytest.mark.parametrize(("key", "value"), [("metric", "l2"), ("assignment", "random"), ("memory", "mean")])
def test_unknown_choices(key, value):
    with pytest.raises(ConfigError, match=rf"TRACKER.{key.upper()}.*'{value}'"):
        CTVISTracker(**{key: value})
