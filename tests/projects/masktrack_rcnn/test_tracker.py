import pytest
import torch

from projects import default_config
from projects.masktrack_rcnn.tracker import ExemplarTracker, match_scores
from vis_core.errors import ConfigError

DIM = 4


def detection(label: int, x: float = 0.0, axis: int = 0, length: float = 10.0, score: float = 0.9):
    """One detection: a 10 x 10 box at ``x``, embedded along one axis."""
    embed = torch.zeros(DIM)
    embed[axis] = length
    return torch.tensor([x, 0.0, x + 10, 10.0]), score, label, embed


def frame(*detections):
    boxes, scores, labels, embeds = zip(*detections) if detections else ((), (), (), ())
    return (
        torch.stack(boxes) if boxes else torch.zeros(0, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.int64),
        torch.stack(embeds) if embeds else torch.zeros(0, DIM),
    )


def run(tracker: ExemplarTracker, *frames) -> list[list[int]]:
    return [tracker.step(*frame(*detections)).tolist() for detections in frames]


def test_first_detections_get_new_ids_in_order():
    assert run(ExemplarTracker(), [], [], [detection(1), detection(0), detection(1)]) == [[], [], [0, 1, 2]]


def test_objects_are_found_again_by_embedding():
    a, b = detection(0, axis=0), detection(0, axis=1)
    assert run(ExemplarTracker(), [a, b], [b, a], [a]) == [[0, 1], [1, 0], [0]]


def test_overlap_decides_between_equal_embeddings():
    left, right = detection(0, x=0), detection(0, x=100)
    assert run(ExemplarTracker(), [left, right], [right, left]) == [[0, 1], [1, 0]]


def test_an_object_of_another_class_is_new():
    assert run(ExemplarTracker(), [detection(0)], [detection(1, axis=1, length=0.5)]) == [[0], [1]]


def test_repeated_ids():
    worse, better = detection(0, length=3.0, score=0.5), detection(0, length=10.0, score=0.9)
    first = [detection(0)]
    assert run(ExemplarTracker(), first, [worse, better])[1] == [0, 0]
    assert run(ExemplarTracker(), first, [better, worse])[1] == [0, -1]
    assert run(ExemplarTracker(repeated_ids="last"), first, [worse, better])[1] == [-1, 0]
    assert run(ExemplarTracker(repeated_ids="unique"), first, [worse, better])[1] == [-1, 0]


@pytest.mark.parametrize("repeated_ids", ["last", "unique"])
def test_ids_are_unique_if_asked_for(repeated_ids):
    tracker, generator = ExemplarTracker(repeated_ids=repeated_ids), torch.Generator().manual_seed(0)
    for _ in range(30):
        boxes = torch.rand(8, 4, generator=generator) * 50
        boxes[:, 2:] += boxes[:, :2]
        scores, embeds = torch.rand(8, generator=generator), torch.randn(8, DIM, generator=generator)
        ids = tracker.step(boxes, scores, torch.arange(8) % 2, embeds)
        kept = ids[ids >= 0].tolist()
        assert len(kept) == len(set(kept))


@pytest.mark.parametrize(("gap", "expected"), [(19, 0), (20, 0), (21, 1)])
def test_retention(gap, expected):
    # Another object keeps frames non-empty: forgetting happens in non-empty frames only.
    other, seen = detection(1, x=50, axis=1), detection(0)
    frames = [[other, seen], *[[other]] * (gap - 1), [other, seen]]
    ids = run(ExemplarTracker(), *frames)
    assert ids[-1][1] == (1 if expected == 0 else 2)
    assert run(ExemplarTracker(num_frames_retain=0), *frames)[-1][1] == 1


def test_nothing_is_forgotten_in_empty_frames():
    assert run(ExemplarTracker(), [detection(0)], *[[]] * 50, [detection(0)])[-1] == [0]


def test_memory_label():
    relabelled = [detection(0)], [detection(1)], [detection(0)]
    tracker = ExemplarTracker()
    run(tracker, *relabelled[:2])
    assert tracker.memory["labels"].tolist() == [1, 1][: len(tracker.memory)]
    tracker = ExemplarTracker(memory_label="first", det_label_weight=0.0)
    run(tracker, *relabelled[:2])
    assert tracker.memory["labels"].tolist() == [0]


def test_order():
    labels = torch.tensor([3, 1, 3, 0, 1])
    assert ExemplarTracker().order(labels).tolist() == [3, 1, 4, 0, 2]
    assert ExemplarTracker(detection_order="score").order(labels).tolist() == [0, 1, 2, 3, 4]


def test_reset_begins_a_new_video():
    tracker = ExemplarTracker()
    run(tracker, [detection(0), detection(1)])
    tracker.reset()
    assert run(tracker, [detection(1)]) == [[0]]


def test_match_scores_by_hand():
    logits = torch.tensor([[0.0, 2.0]])
    scores = match_scores(
        logits,
        torch.tensor([0.5]),
        torch.tensor([[0.25]]),
        torch.tensor([[False]]),
        det_score_weight=1.0,
        iou_weight=2.0,
        det_label_weight=10.0,
        underflow=True,
    )
    expected = logits.log_softmax(1) + torch.tensor(0.5).log() + torch.tensor([[10.0, 0.5]])
    torch.testing.assert_close(scores, expected)


def test_softmax_underflow():
    arguments = (torch.tensor([[0.0, 200.0]]), torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    weights = {"det_score_weight": 1.0, "iou_weight": 2.0, "det_label_weight": 10.0}
    assert match_scores(*arguments, **weights, underflow=True)[0, 0] == -torch.inf
    assert match_scores(*arguments, **weights, underflow=False)[0, 0] == -190.0


def test_config_defaults_are_the_constructors():
    from_config, plain = ExemplarTracker(default_config()), ExemplarTracker()
    values = [{k: v for k, v in vars(t).items() if k != "memory"} for t in (from_config, plain)]
    assert values[0] == values[1]


@pytest.mark.parametrize("key", ["DETECTION_ORDER", "MEMORY_LABEL", "REPEATED_IDS"])
def test_unknown_choices_are_refused(key):
    cfg = default_config()
    cfg.MODEL.MASKTRACK[key] = "nonsense"
    with pytest.raises(ConfigError, match=f"MODEL.MASKTRACK.{key}.*nonsense"):
        ExemplarTracker(cfg)
