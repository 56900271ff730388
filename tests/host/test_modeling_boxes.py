import itertools
import math

import numpy as np
import pytest
import torch
from detectron2.layers import roi_align
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st


def random_boxes(n, side=100.0, seed=0, smallest=1.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * side
    size = torch.rand(n, 2, generator=generator) * side + smallest
    return torch.cat([corner, corner + size], dim=1)


# ---------------------------------------------------------------------------------------------------------- Matcher
@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 4),
    n=st.integers(1, 7),
    low=st.sampled_from([0.2, 0.5]),
    high=st.sampled_from([0.5, 0.75]),
    low_quality=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_matcher_follows_its_rule_column_by_column(m, n, low, high, low_quality, seed):
    # Few different qualities, so that ties and exact thresholds occur.
    quality = np.random.RandomState(seed).randint(0, 5, (m, n)) / 4
    matches, labels = Matcher([low, high], [0, -1, 1], allow_low_quality_matches=low_quality)(torch.tensor(quality))
    assert matches.dtype == torch.int64 and labels.dtype == torch.int8
    for column in range(n):
        best = quality[:, column].max()
        assert quality[matches[column], column] == best
        expected = 0 if best < low else -1 if best < high else 1
        if low_quality and any(quality[row, column] == quality[row].max() for row in range(m)):
            expected = 1
        assert labels[column] == expected


def test_matcher_without_ground_truth():
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 3))
    assert matches.tolist() == [0, 0, 0] and matches.dtype == torch.int64
    assert labels.tolist() == [0, 0, 0] and labels.dtype == torch.int8


@pytest.mark.parametrize(("thresholds", "labels"), [([0.7, 0.3], [0, -1, 1]), ([0.5], [0, 2]), ([0.5], [0, -1, 1])])
def test_matcher_refuses_senseless_settings(thresholds, labels):
    with pytest.raises(AssertionError):
        Matcher(thresholds, labels)


# --------------------------------------------------------------------------------------------------------- sampling
@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.sampled_from([-1, 0, 1, 2, 9]), max_size=30),
    num=st.integers(1, 20),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_subsample_takes_what_there_is(labels, num, fraction):
    labels = torch.tensor(labels, dtype=torch.int64)
    positive, negative = subsample_labels(labels, num, fraction, bg_label=9)
    num_positive = int(((labels != -1) & (labels != 9)).sum())
    num_negative = int((labels == 9).sum())
    assert len(positive) == len(set(positive.tolist())) == min(int(num * fraction), num_positive)
    assert len(negative) == len(set(negative.tolist())) == min(num - len(positive), num_negative)
    assert all(labels[i] not in (-1, 9) for i in positive) and all(labels[i] == 9 for i in negative)


def test_subsample_draws_positives_then_negatives():
    labels = torch.tensor([1, 0, 0, 1, 1, -1, 0, 0])
    torch.manual_seed(3)
    positive, negative = subsample_labels(labels, 4, 0.5, bg_label=0)
    torch.manual_seed(3)
    assert positive.tolist() == torch.tensor([0, 3, 4])[torch.randperm(3)[:2]].tolist()
    assert negative.tolist() == torch.tensor([1, 2, 6, 7])[torch.randperm(4)[:2]].tolist()


# ------------------------------------------------------------------------------------------------- Box2BoxTransform
def test_deltas_of_one_box_by_hand():
    transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    source, target = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 10.0, 25.0, 20.0]])
    # centres (5, 10) -> (15, 15), sizes (10, 20) -> (20, 10)
    expected = torch.tensor([[10 * 10 / 10, 10 * 5 / 20, 5 * math.log(2), 5 * math.log(0.5)]])
    torch.testing.assert_close(transform.get_deltas(source, target), expected)


def test_decoding_undoes_encoding_for_every_one_of_k_boxes():
    transform = Box2BoxTransform(weights=(10.0, 5.0, 2.0, 1.0))
    source, targets = random_boxes(6, seed=1), [random_boxes(6, seed=s) for s in (2, 3, 4)]
    deltas = torch.cat([transform.get_deltas(source, target) for target in targets], dim=1)  # (6, 12)
    torch.testing.assert_close(transform.apply_deltas(deltas, source), torch.cat(targets, dim=1), rtol=1e-5, atol=1e-4)


def test_decoding_bounds_growth_but_not_shrinking_and_works_in_float32():
    transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    source = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    grown = transform.apply_deltas(torch.tensor([[0, 0, 50.0, 50.0]], dtype=torch.float16), source)
    assert grown.dtype == torch.float32
    torch.testing.assert_close(grown[0, 2:] - grown[0, :2], torch.tensor([1000.0, 1000.0]))
    shrunk = transform.apply_deltas(torch.tensor([[0, 0, -50.0, 0.0]]), source)
    torch.testing.assert_close(shrunk, torch.tensor([[8.0, 0.0, 8.0, 16.0]]))
    assert transform.apply_deltas(torch.zeros(0, 8), torch.zeros(0, 4)).shape == (0, 8)


def test_encoding_refuses_sources_without_width():
    with pytest.raises(AssertionError):
        Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(torch.tensor([[3.0, 0.0, 3.0, 5.0]]), random_boxes(1))


# ---------------------------------------------------------------------------------------------------------- anchors
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_anchors_lie_row_by_row_with_sizes_before_ratios(offset):
    sizes, ratios, stride, height, width = [16, 40], [0.5, 1.0, 2.0], 8, 2, 3
    generator = DefaultAnchorGenerator(sizes=[sizes], aspect_ratios=[ratios], strides=[stride], offset=offset)
    (anchors,) = generator([torch.zeros(1, 5, height, width)])
    expected = []
    for y, x, size, ratio in itertools.product(range(height), range(width), sizes, ratios):
        w = size / math.sqrt(ratio)
        h = size * math.sqrt(ratio)
        cx, cy = (x + offset) * stride, (y + offset) * stride
        expected.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    torch.testing.assert_close(anchors.tensor, torch.tensor(expected))
    assert generator.num_anchors == generator.num_cell_anchors == [6] and generator.box_dim == 4


def test_anchor_settings_are_shared_or_one_a_level():
    shared = DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[1.0, 2.0]], strides=[4, 8])
    own = DefaultAnchorGenerator(sizes=[[32], [32]], aspect_ratios=[[1.0, 2.0]] * 2, strides=[4, 8])
    maps = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)]
    assert [torch.equal(a.tensor, b.tensor) for a, b in zip(shared(maps), own(maps))] == [True, True]
    assert not shared.state_dict()
    assert [name for name, _ in shared.named_buffers()] == ["cell_anchors.0", "cell_anchors.1"]
    with pytest.raises(AssertionError):
        DefaultAnchorGenerator(sizes=[[32], [64]], aspect_ratios=[[1.0]], strides=[4, 8, 16])


# ---------------------------------------------------------------------------------------------------------- pooling
LEVEL_OF_SIDE = {10: 2, 111.99: 2, 112: 3, 223.9: 3, 224: 4, 447.9: 4, 448: 5, 1000: 5}


def test_pooler_takes_each_box_from_the_level_of_its_size():
    # Every map is constant and says which level it is.
    maps = [torch.full((1, 1, 1024 // 2**level, 1024 // 2**level), float(level)) for level in (2, 3, 4, 5)]
    sides = torch.tensor(list(LEVEL_OF_SIDE))
    boxes = torch.zeros(len(sides), 4)
    boxes[:, 2:] = sides[:, None]
    pooled = ROIPooler(2, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")(maps, [Boxes(boxes)])
    torch.testing.assert_close(pooled[:, 0, 0, 0], torch.tensor([float(x) for x in LEVEL_OF_SIDE.values()]))


@pytest.mark.parametrize(("kind", "aligned"), [("ROIAlignV2", True), ("ROIAlign", False)])
def test_pooler_keeps_the_order_of_boxes_and_their_gradients(kind, aligned):
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 256 // 2**level, 256 // 2**level, requires_grad=True) for level in (2, 3, 4, 5)]
    # Sides around 60 to 750 pixels: boxes of every level, in mixed order.
    box_lists = [Boxes(random_boxes(9, side, seed=int(side))) for side in (120.0, 400.0)]
    box_lists[1].tensor[::2, 2:] += 350.0
    pooled = ROIPooler((3, 5), [1 / 4, 1 / 8, 1 / 16, 1 / 32], 2, kind)(maps, box_lists)
    assert pooled.shape == (18, 3, 3, 5)
    weight = torch.randn_like(pooled)
    gradients = torch.autograd.grad((pooled * weight).sum(), maps)

    copies = [m.detach().clone().requires_grad_() for m in maps]
    expected, levels = [], []
    for image, boxes in enumerate(box_lists):
        for box in boxes:
            side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            level = min(max(math.floor(4 + math.log2(side / 224 + 1e-8)), 2), 5)
            levels.append(level)
            rois = torch.cat([torch.tensor([float(image)]), box])[None]
            expected.append(roi_align(copies[level - 2], rois, (3, 5), 1 / 2**level, 2, aligned))
    assert set(levels) == {2, 3, 4, 5} and levels != sorted(levels)
    expected = torch.cat(expected)
    assert torch.equal(pooled, expected)
    for got, want in zip(gradients, torch.autograd.grad((expected * weight).sum(), copies)):
        torch.testing.assert_close(got, want)


def test_pooler_without_boxes_and_with_one_level():
    pooler = ROIPooler(7, [1 / 4, 1 / 8], 0, "ROIAlignV2")
    maps = [torch.zeros(2, 5, 8, 8), torch.zeros(2, 5, 4, 4)]
    assert pooler(maps, [Boxes(torch.zeros(0, 4))] * 2).shape == (0, 5, 7, 7)
    single = ROIPooler(7, [1 / 16], 0, "ROIPool")
    assert single([torch.ones(1, 5, 8, 8)], [Boxes(torch.tensor([[0.0, 0.0, 64.0, 64.0]]))]).sum() == 5 * 49


def test_pooler_lets_every_level_take_part_in_the_backward_pass():
    maps = [torch.ones(1, 2, 8, 8, requires_grad=True), torch.ones(1, 2, 4, 4, requires_grad=True)]
    ROIPooler(2, [1 / 4, 1 / 8], 0, "ROIAlignV2")(maps, [Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0]]))]).sum().backward()
    assert maps[0].grad.abs().sum() > 0 and torch.equal(maps[1].grad, torch.zeros_like(maps[1]))


def test_pooler_refuses_what_it_cannot_do():
    for scales in ([1 / 4, 1 / 16], [1 / 3]):
        with pytest.raises(AssertionError):
            ROIPooler(7, scales, 0, "ROIAlignV2")
    with pytest.raises(ValueError):
        ROIPooler(7, [1 / 4], 0, "ROIMagic")


# --------------------------------------------------------------------------------------------------- postprocessing
def test_detections_are_scaled_clipped_pasted_and_emptied():
    boxes = Boxes(torch.tensor([[10.0, 10.0, 20.0, 30.0], [-9.0, 5.0, -1.0, 9.0], [40.0, 0.0, 60.0, 50.0]]))
    results = Instances((50, 50), pred_boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]))
    results.pred_masks = torch.ones(3, 1, 4, 4)
    output = detector_postprocess(results, 100, 150)
    assert output.image_size == (100, 150) and output.scores.tolist() == pytest.approx([0.9, 0.7])
    assert output.pred_boxes.tensor.tolist() == [[30, 20, 60, 60], [120, 0, 150, 100]]
    # The given boxes were scaled in place: that is what the official package does.
    assert boxes.tensor[0].tolist() == [30, 20, 60, 60]
    assert output.pred_masks.dtype == torch.bool and output.pred_masks.shape == (2, 100, 150)
    inside = torch.zeros(100, 150, dtype=torch.bool)
    inside[20:60, 30:60] = True
    # Towards its border a pasted mask fades to zero, so only the corners of a full one fall under the threshold.
    different = (output.pred_masks[0] != inside).nonzero()
    assert all(y in (*range(20, 24), *range(56, 60)) and x in (*range(30, 34), *range(56, 60)) for y, x in different)


def test_sem_seg_is_cropped_before_it_is_resized():
    scores = torch.zeros(2, 8, 8)
    scores[0, :4, :6] = 1.0
    resized = sem_seg_postprocess(scores, (4, 6), 10, 12)
    torch.testing.assert_close(resized, torch.stack([torch.ones(10, 12), torch.zeros(10, 12)]))
