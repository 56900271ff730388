import math

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from vis_core.modeling.mmdet import ClampedBox2BoxTransform, LowQualityMatcher, MMDetROIPooler, assign_levels


def square(side: float) -> torch.Tensor:
    return torch.tensor([[3.0, 5.0, 3.0 + side, 5.0 + side]])


@pytest.mark.parametrize(
    ("side", "level"), [(1e-3, 0), (111.9, 0), (111.99995, 1), (112, 1), (223.9, 1), (224, 2), (448, 3), (5000, 3)]
)
def test_levels(side, level):
    assert assign_levels(square(side), num_levels=4).item() == level


def test_levels_follow_the_finest_scale():
    assert assign_levels(square(60), num_levels=4, finest_scale=28.0).item() == 1


def test_pooler_equals_detectron2s_away_from_the_boundaries():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, 128 // s, 160 // s, generator=generator) for s in (1, 2, 4, 8)]  # 512 x 640 pixels
    corners = torch.rand(2, 30, 2, 2, generator=generator) * torch.tensor([600.0, 480.0])
    boxes = [Boxes(torch.cat([c.amin(1), c.amax(1) + 1], dim=1)) for c in corners]
    scales = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
    ours, theirs = MMDetROIPooler(7, scales), ROIPooler(7, scales, 0, "ROIAlignV2")
    torch.testing.assert_close(ours(features, boxes), theirs(features, boxes))


def test_pooler_without_boxes():
    features = [torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(1, 3, 4, 4)]
    pooled = MMDetROIPooler(7, (1 / 4, 1 / 8))(features, [Boxes(torch.zeros(0, 4))])
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert features[0].grad.abs().sum() == 0


def test_deltas_are_clamped_on_both_sides():
    bound = math.log(1000 / 16)
    boxes, weights = torch.tensor([[0.0, 0, 10, 20]]), (10.0, 10.0, 5.0, 5.0)
    deltas = torch.tensor([[0.0, 0, 500, -500, 0, 0, 5 * bound, -5 * bound]])
    decoded = ClampedBox2BoxTransform(weights).apply_deltas(deltas, boxes).view(2, 4)
    torch.testing.assert_close(decoded[0], decoded[1])
    assert (decoded[0, 3] - decoded[0, 1]).item() == pytest.approx(20 * 16 / 1000, rel=1e-4)
    small = torch.tensor([[0.3, -0.2, 0.5, -0.7]])
    torch.testing.assert_close(
        ClampedBox2BoxTransform(weights).apply_deltas(small, boxes),
        Box2BoxTransform(weights).apply_deltas(small, boxes),
    )
    assert deltas[0, 3] == -500  # the argument is left as it was


def test_low_quality_matches_need_a_minimum_and_take_over():
    #                        a    b    c     d    e
    quality = torch.tensor([[0.80, 0.6, 0.2, 0.00, 0.1], [0.10, 0.4, 0.4, 0.05, 0.4], [0.0, 0.0, 0.0, 0.25, 0.0]])
    matches, labels = LowQualityMatcher([0.3, 0.7], [0, -1, 1], 0.3)(quality)
    # Object 1 reaches its best (0.4) on b, c and e, and takes b from object 0; object 2's best is too small.
    assert labels.tolist() == [1, 1, 1, 0, 1]
    assert matches[labels == 1].tolist() == [0, 1, 1, 1]


def test_of_two_claims_the_last_object_wins():
    matches, labels = LowQualityMatcher([0.5], [0, 1], 0.5)(torch.tensor([[0.6], [0.6]]))
    assert (matches.item(), labels.item()) == (1, 1)


def test_matcher_equals_detectron2s_where_nothing_changes_hands():
    quality = torch.rand(0, 7)
    for ours, theirs in zip(LowQualityMatcher([0.5], [0, 1], 0.5)(quality), Matcher([0.5], [0, 1])(quality)):
        assert ours.tolist() == theirs.tolist()
    quality = torch.cat([torch.full((1, 1), 0.9), torch.rand(1, 6) * 0.8], dim=1)
    for ours, theirs in zip(LowQualityMatcher([0.5], [0, 1], 0.5)(quality), Matcher([0.5], [0, 1])(quality)):
        assert ours.tolist() == theirs.tolist()
