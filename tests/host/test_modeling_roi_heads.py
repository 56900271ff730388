import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec, nms
from detectron2.modeling import FastRCNNOutputLayers, build_box_head, build_mask_head, build_roi_heads
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import mask_rcnn_inference, mask_rcnn_loss, select_foreground_proposals
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

SIZE = (64, 96)
SHAPES = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=4, stride=8)}
K = 3


def heads_cfg(**roi_heads):
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = list(SHAPES)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = K
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    for key, value in roi_heads.items():
        setattr(cfg.MODEL.ROI_HEADS, key, value)
    return cfg


def features(num_images=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(num_images, 4, SIZE[0] // s.stride, SIZE[1] // s.stride, generator=generator)
        for name, s in SHAPES.items()
    }


def random_proposals(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * torch.tensor([60.0, 40.0])
    boxes = torch.cat([corner, corner + 4 + torch.rand(n, 2, generator=generator) * 28], dim=1)
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(n))


def truth(boxes=((4.0, 4.0, 30.0, 28.0), (50.0, 20.0, 80.0, 60.0)), classes=(2, 0)):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0 : (x0 + x1) // 2] = True  # the left half
    return Instances(
        SIZE,
        gt_boxes=Boxes(boxes),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
        gt_masks=BitMasks(masks),
        gt_ids=torch.arange(len(boxes)) + 7,
    )


# --------------------------------------------------------------------------------------------------------- sampling
def test_sampled_proposals_carry_the_ground_truth_they_overlap_most():
    heads = build_roi_heads(heads_cfg(BATCH_SIZE_PER_IMAGE=20, POSITIVE_FRACTION=0.5), SHAPES)
    gt = truth()
    near = Boxes(gt.gt_boxes.tensor.repeat(4, 1) + torch.linspace(0, 3, 8)[:, None])
    proposals = Instances.cat(
        [random_proposals(40), Instances(SIZE, proposal_boxes=near, objectness_logits=torch.zeros(8))]
    )
    with EventStorage() as storage:
        (sampled,) = heads.label_and_sample_proposals([proposals], [gt])
        scalars = {name: value for name, (value, _) in storage.latest().items()}
    iou = pairwise_iou(gt.gt_boxes, sampled.proposal_boxes)
    best, owner = iou.max(0)
    foreground = best >= 0.5
    num_foreground = int(foreground.sum())
    assert len(sampled) == 20 and num_foreground == 10 and foreground[:10].all()
    assert torch.equal(sampled.gt_classes, torch.where(foreground, gt.gt_classes[owner], K))
    assert torch.equal(sampled.gt_ids, gt.gt_ids[owner])
    assert torch.equal(sampled.gt_boxes.tensor, gt.gt_boxes.tensor[owner])
    assert torch.equal(sampled.gt_masks.tensor, gt.gt_masks.tensor[owner])
    assert scalars == {"roi_head/num_fg_samples": 10, "roi_head/num_bg_samples": 10}


@pytest.mark.parametrize("append", [True, False])
def test_ground_truth_is_appended_on_request(append):
    heads = build_roi_heads(heads_cfg(BATCH_SIZE_PER_IMAGE=100, PROPOSAL_APPEND_GT=append), SHAPES)
    with EventStorage():
        (sampled,) = heads.label_and_sample_proposals([random_proposals(10)], [truth()])
    assert len(sampled) == (12 if append else 10)
    assert (pairwise_iou(truth().gt_boxes, sampled.proposal_boxes).max() == 1) == append


def test_images_without_objects_are_background():
    heads = build_roi_heads(heads_cfg(), SHAPES)
    with EventStorage():
        (sampled,) = heads.label_and_sample_proposals([random_proposals(10)], [truth((), ())])
    assert sampled.gt_classes.tolist() == [K] * 10 and not sampled.has("gt_boxes")


def test_select_foreground_proposals():
    proposals = random_proposals(4)
    proposals.gt_classes = torch.tensor([1, -1, K, 0])
    (foreground,), (mask,) = select_foreground_proposals([proposals], K)
    assert mask.tolist() == [True, False, False, True] and foreground.gt_classes.tolist() == [1, 0]


# ------------------------------------------------------------------------------------------------------- box branch
def predictor(agnostic=False, **kwargs):
    torch.manual_seed(1)
    layers = FastRCNNOutputLayers(
        8,
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=K,
        cls_agnostic_bbox_reg=agnostic,
        **kwargs,
    )
    torch.nn.init.normal_(layers.bbox_pred.weight, std=0.3)
    return layers


@pytest.mark.parametrize("agnostic", [False, True])
def test_box_losses_follow_their_formulas(agnostic):
    layers = predictor(agnostic, smooth_l1_beta=0.5, loss_weight={"loss_box_reg": 3.0})
    proposals = [random_proposals(5), random_proposals(4, seed=1)]
    proposals[0].gt_classes = torch.tensor([0, 2, K, 1, K])
    proposals[0].gt_boxes = random_proposals(5, seed=2).proposal_boxes
    proposals[1].gt_classes = torch.full((4,), K)  # an image without objects: no gt_boxes
    logits, deltas = layers(torch.randn(9, 8, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (9, K + 1) and deltas.shape == (9, 4 if agnostic else 4 * K)
    with EventStorage() as storage:
        losses = layers.losses((logits, deltas), proposals)
        scalars = {name: value for name, (value, _) in storage.latest().items()}

    classes = torch.cat([p.gt_classes for p in proposals])
    expected_cls = -F.log_softmax(logits, 1)[torch.arange(9), classes].mean()
    torch.testing.assert_close(losses["loss_cls"], expected_cls)
    expected = 0
    for i in (0, 1, 3):
        c = 0 if agnostic else classes[i]
        target = layers.box2box_transform.get_deltas(
            proposals[0].proposal_boxes[i].tensor, proposals[0].gt_boxes[i].tensor
        )
        expected += F.smooth_l1_loss(deltas[i, 4 * c : 4 * c + 4], target[0], beta=0.5, reduction="sum")
    torch.testing.assert_close(losses["loss_box_reg"], 3 * expected / 9)
    predicted = logits.argmax(1)
    assert scalars["fast_rcnn/cls_accuracy"] == pytest.approx((predicted == classes).float().mean().item())
    foreground = classes < K
    hits, misses = (predicted == classes)[foreground], (predicted == K)[foreground]
    assert scalars["fast_rcnn/fg_cls_accuracy"] == pytest.approx(hits.float().mean().item())
    assert scalars["fast_rcnn/false_negative"] == pytest.approx(misses.float().mean().item())


@pytest.mark.parametrize("agnostic", [False, True])
def test_inference_keeps_the_best_boxes_of_every_class(agnostic):
    n, threshold, nms_threshold, topk = 30, 0.2, 0.5, 12
    generator = torch.Generator().manual_seed(0)
    boxes = torch.stack([random_proposals(n, seed=s).proposal_boxes.tensor for s in range(1 if agnostic else K)], 1)
    boxes = boxes.flatten(1) + torch.tensor([-9.0, -9.0, 30.0, 9.0]).repeat(1 if agnostic else K)  # over the border
    scores = torch.rand(n, K + 1, generator=generator).softmax(1)
    (result,), (rows,) = fast_rcnn_inference([boxes], [scores], [SIZE], threshold, nms_threshold, topk)

    expected = []
    clipped = boxes.reshape(n, -1, 4).clamp(min=0).minimum(torch.tensor([SIZE[1], SIZE[0]] * 2, dtype=torch.float32))
    for c in range(K):
        candidates = (scores[:, c] > threshold).nonzero()[:, 0]
        own = clipped[candidates, 0 if agnostic else c]
        for i in nms(own, scores[candidates, c], nms_threshold):
            expected.append((scores[candidates[i], c].item(), c, candidates[i].item(), own[i].tolist()))
    expected = sorted(expected, reverse=True)[:topk]
    assert len(expected) == topk
    assert result.scores.tolist() == [e[0] for e in expected]
    assert result.pred_classes.tolist() == [e[1] for e in expected] and rows.tolist() == [e[2] for e in expected]
    assert result.pred_boxes.tensor.tolist() == [e[3] for e in expected]


def test_inference_drops_rows_that_are_not_finite():
    boxes = random_proposals(6).proposal_boxes.tensor.repeat(1, K)
    scores = torch.full((6, K + 1), 0.01)
    scores[torch.arange(6), [0, 1, 2, 0, 1, 2]] = torch.linspace(0.9, 0.4, 6)
    boxes[0, 1], scores[2, 0] = math.nan, math.inf
    (result,), _ = fast_rcnn_inference([boxes], [scores], [SIZE], 0.1, 0.5, 100)
    assert result.pred_classes.tolist() == [1, 0, 1, 2]
    (empty,), (rows,) = fast_rcnn_inference([boxes[:0]], [scores[:0]], [SIZE], 0.1, 0.5, 100)
    assert len(empty) == len(rows) == 0 and empty.has("pred_classes")


def test_boxes_predicted_for_the_true_class():
    layers = predictor()
    proposals = [random_proposals(3), random_proposals(2, seed=1)]
    proposals[0].gt_classes, proposals[1].gt_classes = torch.tensor([2, K, 0]), torch.tensor([1, 1])
    predictions = layers(torch.randn(5, 8))
    every = torch.cat(layers.predict_boxes(predictions, proposals)).view(5, K, 4)
    first, second = layers.predict_boxes_for_gt_classes(predictions, proposals)
    assert torch.equal(torch.cat([first, second])[[0, 2, 3, 4]], every[[0, 2, 3, 4], [2, 0, 1, 1]])
    assert [p.shape for p in layers.predict_probs(predictions, proposals)] == [(3, K + 1), (2, K + 1)]


def test_box_head_layers_and_shape():
    cfg = heads_cfg()
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, cfg.MODEL.ROI_BOX_HEAD.CONV_DIM, cfg.MODEL.ROI_BOX_HEAD.NORM = 2, 32, "GN"
    head = build_box_head(cfg, ShapeSpec(channels=4, height=7, width=7))
    names = [name for name, _ in head.named_children()]
    assert names == ["conv1", "conv2", "flatten", "fc1", "fc_relu1", "fc2", "fc_relu2"]
    assert "conv1.bias" not in head.state_dict() and "conv1.norm.bias" in head.state_dict()
    assert head.output_shape == ShapeSpec(channels=8) and head(torch.zeros(5, 4, 7, 7)).shape == (5, 8)
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 0
    head = build_box_head(cfg, ShapeSpec(channels=4, height=7, width=7))
    assert head.output_shape == ShapeSpec(channels=32, height=7, width=7)
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV = 0
    with pytest.raises(AssertionError):
        build_box_head(cfg, ShapeSpec(channels=4, height=7, width=7))


# ------------------------------------------------------------------------------------------------------ mask branch
@pytest.mark.parametrize("num_maps", [K, 1])
def test_mask_loss_is_the_cross_entropy_of_the_cropped_mask(num_maps):
    gt = truth()
    gt.proposal_boxes = gt.gt_boxes.clone()
    empty = truth((), ())
    empty.proposal_boxes = empty.gt_boxes
    logits = torch.randn(2, num_maps, 8, 8, generator=torch.Generator().manual_seed(0))
    with EventStorage() as storage:
        loss = mask_rcnn_loss(logits, [empty, gt])
        scalars = {name: value for name, (value, _) in storage.latest().items()}
    target = torch.zeros(2, 8, 8)
    target[:, :, :4] = 1.0  # the masks are the left halves of their boxes
    own = logits[[0, 1], [0, 0] if num_maps == 1 else [2, 0]]
    torch.testing.assert_close(loss, (F.softplus(own) - own * target).mean())
    wrong = (own > 0) != target.bool()
    assert scalars["mask_rcnn/accuracy"] == pytest.approx(1 - wrong.float().mean().item())
    assert scalars["mask_rcnn/false_positive"] == pytest.approx(wrong[target == 0].float().mean().item())
    assert scalars["mask_rcnn/false_negative"] == pytest.approx(wrong[target == 1].float().mean().item())


def test_mask_loss_without_foreground_is_zero_and_differentiable():
    logits = torch.zeros(0, K, 8, 8, requires_grad=True)
    with EventStorage():
        loss = mask_rcnn_loss(logits, [truth((), ())])
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, K, 8, 8)


@pytest.mark.parametrize("num_maps", [K, 1])
def test_mask_inference_takes_the_map_of_the_predicted_class(num_maps):
    logits = torch.randn(3, num_maps, 4, 4)
    instances = [Instances(SIZE, pred_classes=torch.tensor(c, dtype=torch.int64)) for c in ([2, 0], [], [1])]
    mask_rcnn_inference(logits, instances)
    classes = [0, 0, 0] if num_maps == 1 else [2, 0, 1]
    assert [x.pred_masks.shape for x in instances] == [(2, 1, 4, 4), (0, 1, 4, 4), (1, 1, 4, 4)]
    assert torch.equal(torch.cat([x.pred_masks for x in instances])[:, 0], logits[[0, 1, 2], classes].sigmoid())


def test_mask_head_layers():
    cfg = heads_cfg()
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = 2, True
    head = build_mask_head(cfg, ShapeSpec(channels=4, height=14, width=14))
    assert [n for n, _ in head.named_children()] == ["mask_fcn1", "mask_fcn2", "deconv", "deconv_relu", "predictor"]
    assert head.layers(torch.zeros(2, 4, 14, 14)).shape == (2, 1, 28, 28)
    with EventStorage(), pytest.raises(AssertionError):
        mask_rcnn_loss(torch.zeros(1, 1, 4, 5), [])


# ---------------------------------------------------------------------------------------------------- both together
def test_training_gives_losses_that_reach_every_weight():
    torch.manual_seed(0)
    heads = build_roi_heads(heads_cfg(), SHAPES).train()
    with EventStorage():
        sampled, losses = heads(
            None, features(2), [random_proposals(20), random_proposals(20, seed=1)], [truth(), truth()]
        )
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask"}
    assert [len(x) for x in sampled] == [16, 16]
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())


def test_mask_head_can_train_on_predicted_boxes():
    cfg = heads_cfg()
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = True
    torch.manual_seed(0)
    heads = build_roi_heads(cfg, SHAPES).train()
    torch.nn.init.constant_(heads.box_predictor.bbox_pred.bias, 0.5)
    proposals = random_proposals(20)
    with EventStorage():
        (sampled,), _ = heads(None, features(), [proposals], [truth()])
    assert len(sampled) == 16
    given = torch.cat([proposals.proposal_boxes.tensor, truth().gt_boxes.tensor])
    assert not any((given == box).all(1).any() for box in sampled.proposal_boxes.tensor)
    assert not sampled.proposal_boxes.tensor.requires_grad


@torch.no_grad()
def test_given_boxes_get_the_masks_of_full_inference():
    torch.manual_seed(0)
    heads = build_roi_heads(heads_cfg(SCORE_THRESH_TEST=0.0), SHAPES).eval()
    (result,), losses = heads(None, features(), [random_proposals(20)])
    assert losses == {} and len(result) > 0 and result.pred_masks.shape == (len(result), 1, 28, 28)
    given = Instances(SIZE, pred_boxes=result.pred_boxes, pred_classes=result.pred_classes)
    (again,) = heads.forward_with_given_boxes(features(), [given])
    assert torch.equal(again.pred_masks, result.pred_masks)


def test_a_subclass_can_add_a_head_of_its_own():
    from detectron2.config import configurable
    from detectron2.modeling import StandardROIHeads

    class TrackingHeads(StandardROIHeads):
        @configurable
        def __init__(self, *, track_head, **kwargs):
            super().__init__(**kwargs)
            self.track_head = track_head

        @classmethod
        def from_config(cls, cfg, input_shape):
            return super().from_config(cfg, input_shape) | {"track_head": torch.nn.Linear(4, 2)}

        @classmethod
        def _init_mask_head(cls, cfg, input_shape):
            return {}

    heads = TrackingHeads(heads_cfg(), SHAPES).eval()
    assert heads.track_head.out_features == 2 and not hasattr(heads, "mask_head")
    ((result,), _) = heads(None, features(), [random_proposals(5)])
    assert not result.has("pred_masks")


@pytest.mark.bundled_only
def test_settings_of_the_official_package_alone_are_refused():
    for section, key in (("ROI_BOX_HEAD", "USE_FED_LOSS"), ("ROI_BOX_HEAD", "USE_SIGMOID_CE"), (None, "KEYPOINT_ON")):
        cfg = heads_cfg()
        setattr(cfg.MODEL[section] if section else cfg.MODEL, key, True)
        with pytest.raises(NotImplementedError, match="official"):
            build_roi_heads(cfg, SHAPES)
