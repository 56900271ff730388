import numpy as np
import pytest

from projects.seq_mask_rcnn.reduce import category_aware, reduce_sequences, seq_nms, seq_soft_nms, sequence_iou
from vis_core.tube import encode_masks


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 5, 24, 32), bool)
    for tube in masks[:-1]:
        for mask in tube:
            y, x = rng.integers(0, 12), rng.integers(0, 16)
            mask[y : y + 10, x : x + 12] = rng.random((10, 12)) < 0.8
    masks[2, 3:] = False
    return masks  # the last one is empty throughout


def soft_nms_literally(scores, ious, sigma, score_thresh, max_seq):
    scores, left, out = list(scores), list(range(len(scores))), []
    while left and len(out) < max_seq:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] < score_thresh:
            break
        out.append((best, scores[best]))
        left.remove(best)
        for i in left:
            if scores[i] >= score_thresh:
                scores[i] *= np.exp(-(ious[best, i] ** 2) / sigma)
    return out


def test_overlaps_are_ratios_of_sums(sequences):
    tubes = [[rle if mask.any() else None for rle, mask in zip(encode_masks(tube), tube)] for tube in sequences]
    ious = sequence_iou(tubes)
    for i, a in enumerate(sequences):
        for j, b in enumerate(sequences):
            union = (a | b).sum()
            assert ious[i, j] == ((a & b).sum() / union if union else 0.0)
    assert (ious == sequence_iou([encode_masks(tube) for tube in sequences])).all()  # None is an empty mask
    assert sequence_iou([]).shape == (0, 0)


@pytest.mark.parametrize(("sigma", "score_thresh", "max_seq"), [(0.5, 0.001, 100), (0.1, 0.05, 100), (0.5, 0.3, 3)])
def test_soft_nms_as_written_down(sequences, sigma, score_thresh, max_seq):
    ious = sequence_iou([encode_masks(tube) for tube in sequences])
    rng = np.random.default_rng(1)
    scores = (rng.random((len(sequences), 6)) ** 3).round(2)  # with ties, and some below the thresholds
    lowered = category_aware(scores, ious, sigma, score_thresh, max_seq)
    for label in range(scores.shape[1]):
        literally = soft_nms_literally(scores[:, label], ious, sigma, score_thresh, max_seq)
        indices, values = seq_soft_nms(scores[:, label], ious, sigma, score_thresh, max_seq)
        assert indices == [i for i, _ in literally]
        np.testing.assert_allclose(values, [value for _, value in literally], rtol=1e-12)
        expected = np.full(len(scores), -1.0)
        expected[indices] = values
        assert (lowered[:, label] == expected).all()


def test_nms_keeps_the_best_whatever_its_score():
    ious = np.eye(3)
    assert seq_nms(np.array([0.01, 0.02, 0.02]), ious, 0.5, 0.05) == [1]
    assert seq_nms(np.array([0.5, 0.02, 0.7]), ious, 0.5, 0.05) == [2, 0]
    assert seq_nms(np.array([0.5, 0.6]), np.array([[1, 0.5], [0.5, 1]]), 0.5, 0.05) == [1]  # as much is too much


@pytest.mark.parametrize("rule", ["seq_nms", "seq_soft_nms"])
@pytest.mark.parametrize("by_class", [False, True])
def test_nothing_to_reduce(small_config, rule, by_class):
    settings = small_config().MODEL.SEQ_MASK_RCNN
    settings.REDUCE.TYPE, settings.CATE_REDUCE.ENABLED = rule, by_class
    kept, scores = reduce_sequences(np.zeros((0, 3)), np.zeros((0, 0)), settings)
    assert kept == [] and len(scores) == 0


def test_soft_nms_with_low_scores_only_returns_nothing(small_config):
    settings = small_config().MODEL.SEQ_MASK_RCNN
    settings.REDUCE.TYPE, settings.REDUCE.SCORE_THRESH = "seq_soft_nms", 0.001
    kept, scores = reduce_sequences(np.full((2, 3), 1e-4), np.eye(2), settings)
    assert kept == [] and scores.shape == (0, 3)


def test_soft_nms_puts_a_sequence_out_for_its_best_class(small_config):
    settings = small_config().MODEL.SEQ_MASK_RCNN
    settings.REDUCE.TYPE = "seq_soft_nms"
    kept, scores = reduce_sequences(np.array([[0.2, 0.6], [0.7, 0.1]]), np.array([[1, 0.5], [0.5, 1]]), settings)
    assert kept == [1, 0]
    np.testing.assert_allclose(scores, [[0.7, -1], [-1, 0.6 * np.exp(-0.5)]])
