import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec, nms
from detectron2.modeling import build_proposal_generator, build_rpn_head
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

HEIGHT, WIDTH = 64, 96
SHAPES = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=4, stride=8)}


def rpn_cfg(**settings):
    cfg = get_cfg()
    cfg.MODEL.RPN.IN_FEATURES = list(SHAPES)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    for key, value in settings.items():
        setattr(cfg.MODEL.RPN, key, value)
    return cfg


def build(training=True, **settings):
    torch.manual_seed(0)
    rpn = build_proposal_generator(rpn_cfg(**settings), SHAPES).train(training)
    # Predictions far from zero, so that decoding and clamping matter.
    for layer in (rpn.rpn_head.objectness_logits, rpn.rpn_head.anchor_deltas):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return rpn


def batch(num_images=2):
    generator = torch.Generator().manual_seed(1)
    features = {
        name: torch.randn(num_images, 4, HEIGHT // s.stride, WIDTH // s.stride, generator=generator)
        for name, s in SHAPES.items()
    }
    return ImageList(torch.zeros(num_images, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH), (60, 90)][:num_images]), features


def truth(*boxes, size=(HEIGHT, WIDTH)):
    return Instances(size, gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


GT = [truth([4.0, 4.0, 30.0, 28.0], [50.0, 20.0, 60.0, 30.0]), truth([10.0, 10.0, 50.0, 44.0], size=(60, 90))]


def by_anchor(rpn, features):
    """All levels' anchors (R, 4), logits (N, R) and deltas (N, R, 4): rows, columns, anchors of a cell."""
    anchors = Boxes.cat(rpn.anchor_generator(list(features.values()))).tensor
    logits, deltas = rpn.rpn_head(list(features.values()))
    n = len(logits[0])
    logits = [x.movedim(1, -1).reshape(n, -1) for x in logits]
    deltas = [x.reshape(n, -1, 4, *x.shape[2:]).movedim((1, 2), (-2, -1)).reshape(n, -1, 4) for x in deltas]
    return anchors, logits, deltas


def test_losses_follow_their_formulas():
    rpn = build(BATCH_SIZE_PER_IMAGE=10_000, LOSS_WEIGHT=2.0, BBOX_REG_LOSS_WEIGHT=3.0, SMOOTH_L1_BETA=0.1)
    images, features = batch()
    with EventStorage() as storage:
        _, losses = rpn(images, features, GT)
        scalars = {name: value for name, (value, _) in storage.latest().items()}

    anchors, logits, deltas = by_anchor(rpn, features)
    logits, deltas = torch.cat(logits, 1), torch.cat(deltas, 1)
    objectness = localization = positives = negatives = 0
    for image, gt in enumerate(GT):
        iou = pairwise_iou(gt.gt_boxes, Boxes(anchors))
        best = iou.max(0)
        positive = (best.values >= 0.7) | (iou == iou.max(1, keepdim=True).values).any(0)
        negative = (best.values < 0.3) & ~positive
        positives, negatives = positives + positive.sum(), negatives + negative.sum()
        objectness += F.softplus(-logits[image, positive]).sum() + F.softplus(logits[image, negative]).sum()
        targets = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(
            anchors[positive], gt.gt_boxes.tensor[best.indices[positive]]
        )
        localization += F.smooth_l1_loss(deltas[image, positive], targets, beta=0.1, reduction="sum")
    torch.testing.assert_close(losses["loss_rpn_cls"], 2 * objectness / 20_000)
    torch.testing.assert_close(losses["loss_rpn_loc"], 6 * localization / 20_000)
    assert scalars == {"rpn/num_pos_anchors": positives / 2, "rpn/num_neg_anchors": negatives / 2}
    assert positives > len(GT) and negatives > 0


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_box_losses_vanish_for_perfect_boxes(kind):
    rpn = build(BATCH_SIZE_PER_IMAGE=8, BBOX_REG_LOSS_TYPE=kind)
    torch.nn.init.zeros_(rpn.rpn_head.anchor_deltas.weight)
    images, features = batch(1)
    anchors = Boxes.cat(rpn.anchor_generator(list(features.values())))
    with EventStorage():
        exact = rpn(images, features, [truth(anchors.tensor[100].tolist())])[1]["loss_rpn_loc"]
        shifted = rpn(images, features, [truth((anchors.tensor[100] + 1.5).tolist())])[1]["loss_rpn_loc"]
    assert abs(exact) < 1e-5 and shifted > 0.01


def test_unknown_box_loss_is_refused():
    rpn = build(BBOX_REG_LOSS_TYPE="l7")
    with EventStorage(), pytest.raises(ValueError):
        rpn(*batch(1), GT[:1])


def test_sampling_is_bounded_and_gradients_flow_into_both_layers():
    rpn = build(BATCH_SIZE_PER_IMAGE=6, POSITIVE_FRACTION=0.5)
    images, features = batch()
    anchors = rpn.anchor_generator(list(features.values()))
    labels, boxes = rpn.label_and_sample_anchors(anchors, GT)
    for image, (label, box) in enumerate(zip(labels, boxes)):
        assert (label == 1).sum() <= 3 and (label >= 0).sum() == 6
        assert box.shape == (len(label), 4)
        assert all(b.tolist() in GT[image].gt_boxes.tensor.tolist() for b in box[label == 1])
    with EventStorage():
        sum(rpn(images, features, GT)[1].values()).backward()
    assert rpn.rpn_head.anchor_deltas.weight.grad.abs().sum() > 0
    assert rpn.rpn_head.objectness_logits.weight.grad.abs().sum() > 0


def test_an_image_without_objects_is_all_background():
    rpn = build()
    images, features = batch(1)
    with EventStorage():
        losses = rpn(images, features, [truth()])[1]
    assert losses["loss_rpn_loc"] == 0 and losses["loss_rpn_cls"] > 0
    losses["loss_rpn_loc"].backward()


def test_anchors_beyond_the_border_can_be_ignored():
    rpn = build(BOUNDARY_THRESH=0, BATCH_SIZE_PER_IMAGE=10_000)
    anchors = rpn.anchor_generator([torch.zeros(1, 4, HEIGHT // 4, WIDTH // 4), torch.zeros(1, 4, 8, 12)])
    ((labels,), _) = rpn.label_and_sample_anchors(anchors, GT[:1])
    inside = Boxes.cat(anchors).inside_box((HEIGHT, WIDTH))
    assert (labels[~inside] == -1).all() and (labels[inside] >= 0).any()


@torch.no_grad()
def test_proposals_are_the_best_of_each_level():
    pre, post, threshold = 40, 25, 0.6
    rpn = build(False, PRE_NMS_TOPK_TEST=pre, POST_NMS_TOPK_TEST=post, NMS_THRESH=threshold)
    rpn.min_box_size = 3.0
    images, features = batch()
    proposals, losses = rpn(images, features)
    assert losses == {}
    anchors, logits, deltas = by_anchor(rpn, features)
    start = [0, logits[0].shape[1]]
    for image, (height, width) in enumerate(images.image_sizes):
        kept_boxes, kept_logits = [], []
        for level in range(2):
            top = logits[level][image].argsort(descending=True)[:pre]
            boxes = Box2BoxTransform((1.0,) * 4).apply_deltas(deltas[level][image, top], anchors[start[level] + top])
            boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
            boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
            big = ((boxes[:, 2:] - boxes[:, :2]) > 3.0).all(1)
            boxes, scores = boxes[big], logits[level][image, top][big]
            keep = nms(boxes, scores, threshold)
            kept_boxes.append(boxes[keep])
            kept_logits.append(scores[keep])
        order = torch.cat(kept_logits).argsort(descending=True)[:post]
        torch.testing.assert_close(proposals[image].objectness_logits, torch.cat(kept_logits)[order])
        torch.testing.assert_close(proposals[image].proposal_boxes.tensor, torch.cat(kept_boxes)[order])
        assert set(proposals[image].get_fields()) == {"proposal_boxes", "objectness_logits"}


def test_infinite_predictions_stop_training_but_not_testing():
    rpn = build(True)
    images, features = batch(1)
    with torch.no_grad():
        rpn.rpn_head.objectness_logits.bias[0] = math.inf
    with EventStorage(), pytest.raises(FloatingPointError):
        rpn(images, features, GT[:1])
    proposals, _ = rpn.eval()(images, features)
    assert len(proposals[0]) > 0 and proposals[0].objectness_logits.isfinite().all()


def test_head_can_have_several_convolutions():
    shapes = list(SHAPES.values())
    head = build_rpn_head(rpn_cfg(CONV_DIMS=[-1, 6]), shapes)
    assert [k for k in head.state_dict() if k.endswith("weight")] == [
        "conv.conv0.weight",
        "conv.conv1.weight",
        "objectness_logits.weight",
        "anchor_deltas.weight",
    ]
    logits, deltas = head([torch.zeros(1, 4, 3, 5)])
    assert logits[0].shape == (1, 3, 3, 5) and deltas[0].shape == (1, 12, 3, 5)
    with pytest.raises(AssertionError):
        build_rpn_head(rpn_cfg(), [ShapeSpec(channels=4, stride=4), ShapeSpec(channels=5, stride=8)])


def test_precomputed_proposals_need_no_generator():
    cfg = rpn_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, SHAPES) is None


def test_ground_truth_joins_the_proposals_at_the_end():
    proposals = Instances((64, 96), proposal_boxes=Boxes(torch.ones(2, 4)), objectness_logits=torch.zeros(2))
    gt = truth([1.0, 2.0, 3.0, 4.0])
    gt.gt_classes = torch.tensor([3])
    (joined,) = add_ground_truth_to_proposals([gt], [proposals])
    assert joined.proposal_boxes.tensor[2].tolist() == [1, 2, 3, 4] and not joined.has("gt_classes")
    assert joined.objectness_logits.tolist() == [0, 0, pytest.approx(23.0259, abs=1e-4)]
    assert len(proposals) == 2
    proposals.extra = torch.zeros(2)
    with pytest.raises(AssertionError):
        add_ground_truth_to_proposals([gt], [proposals])
