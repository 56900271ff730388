import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import build_proposal_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import vis_core.modeling  # noqa: F401  registers the modules
from vis_core.modeling.mmdet_legacy import (
    LegacyAnchorGenerator,
    LegacyOutputLayers,
    LegacyROIPooler,
    clip_boxes,
    paste_masks,
)


def test_anchors_are_whole_pixels_around_a_cells_centre():
    generator = LegacyAnchorGenerator(sizes=[[32], [64]], aspect_ratios=[[0.5, 1.0, 2.0]], strides=[4, 8], offset=0.0)
    first, second = (x.tolist() for x in generator.cell_anchors)
    assert first == [[-21, -9, 25, 13], [-14, -14, 18, 18], [-9, -21, 13, 25]]
    assert second[1] == [-28, -28, 36, 36]
    boxes = generator([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])[0].tensor.view(2, 3, 3, 4)
    assert (boxes[1, 2] - boxes[0, 0]).tolist() == [[8, 4, 8, 4]] * 3  # row, column, anchor


def test_anchor_generator_from_config():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    generator = LegacyAnchorGenerator(cfg, [ShapeSpec(stride=4)])
    assert next(iter(generator.cell_anchors))[1].tolist() == [-14, -14, 18, 18]


@pytest.mark.parametrize(("name", "divisor"), [("MMDetRPN", 64 + 40), ("LegacyRPN", 65 + 40)])
def test_divisor_of_the_rpn_losses(name, divisor):
    """Early mmdetection counts at least one positive and one negative an image."""
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = name
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 64
    rpn = build_proposal_generator(cfg, {"res4": ShapeSpec(channels=4, stride=16)})
    labels = torch.full((2, 100), -1)
    labels[0, :64] = 0  # no positive at all
    labels[1, :10], labels[1, 10:40] = 1, 0
    anchors = [Boxes(torch.tensor([[0.0, 0, 32, 32]]).expand(100, 4))]
    logits, deltas = [torch.zeros(2, 100)], [torch.zeros(2, 100, 4)]
    gt_boxes = [anchors[0].tensor + 1] * 2
    with EventStorage():
        losses = rpn.losses(anchors, logits, list(labels), deltas, gt_boxes)
    # The cross entropy of a logit of 0 is log 2, whatever the label.
    assert losses["loss_rpn_cls"].item() == pytest.approx((64 + 40) * math.log(2) / divisor)


def test_clipped_boxes_have_a_pixel():
    boxes = torch.tensor([[-5.0, -5, -2, 3], [98, 40, 130, 60], [10, 10, 20, 20]])
    assert clip_boxes(boxes, (50, 100)).tolist() == [[0, 0, 1, 3], [98, 40, 100, 50], [10, 10, 20, 20]]
    assert clip_boxes(torch.tensor([[200.0, 200, 300, 300]]), (50, 100)).tolist() == [[99, 49, 100, 50]]


def test_pooler_samples_at_corners():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 20, 30, generator=generator)
    large = torch.tensor([[10.0, 12, 60, 50], [3, 3, 40, 20]])
    rois = torch.cat([torch.zeros(2, 1), large], dim=1)
    ours = LegacyROIPooler(7, (0.25,))([features], [Boxes(large)])
    torch.testing.assert_close(ours, ROIAlign((7, 7), 0.25, 2, aligned=False)(features, rois))
    # Under one cell that one enlarges the box; here all samples lie within it.
    ramp = torch.arange(30.0).expand(1, 1, 20, 30).contiguous()
    tiny = LegacyROIPooler(7, (0.25,))([ramp], [Boxes(torch.tensor([[40.0, 40, 41, 41]]))])
    assert tiny.min() >= 10 and tiny.max() <= 10.25


def test_detections_come_class_after_class_unless_there_are_too_many():
    predictor = LegacyOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=2,
        test_score_thresh=0.2,
        test_topk_per_image=4,
    )
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 50, 50], [70, 0, 90, 20], [120, 0, 130, 20]])
    proposals = [Instances((60, 100), proposal_boxes=Boxes(boxes))]
    scores = torch.tensor([[0.5, 0.25, 0.25], [0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3], [0.1, 0.1, 0.8]])
    predictions = (scores.log(), torch.zeros(5, 8))
    (found,), (rows,) = predictor.inference(predictions, proposals)
    # Per class: 3 and 0 of the first (1 is suppressed), 2 and 1 of the second.
    assert rows.tolist() == [3, 0, 2, 1] and found.pred_classes.tolist() == [0, 0, 1, 1]
    predictor.test_topk_per_image = 3
    (found,), (rows,) = predictor.inference(predictions, proposals)
    assert rows.tolist() == [2, 3, 0] and found.pred_classes.tolist() == [1, 0, 0]
    predictor.test_score_thresh = 0.9
    (found,), _ = predictor.inference(predictions, proposals)
    assert len(found) == 0


@pytest.mark.parametrize("box", [[0.0, 0, 9, 6], [3.7, 2.2, 9, 6], [8.5, 5.5, 9, 6]])
def test_masks_reach_the_images_last_row(box):
    masks = paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), (6, 9))
    expected = torch.zeros(6, 9, dtype=torch.bool)
    expected[int(box[1]) :, int(box[0]) :] = True
    assert (masks[0] == expected).all()


def test_soft_masks():
    ramp = torch.linspace(0, 1, 28).expand(1, 28, 28)
    soft = paste_masks(ramp, torch.tensor([[2.0, 1, 10, 5]]), (8, 12), threshold=None)
    assert soft.shape == (1, 8, 12) and soft.dtype == torch.float32
    assert (soft[0, 1:5, 2:10].diff(dim=1) > 0).all() and soft[0, :, 10:].sum() == 0
    assert ((soft > 0.5) == paste_masks(ramp, torch.tensor([[2.0, 1, 10, 5]]), (8, 12))).all()
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (8, 12)).shape == (0, 8, 12)
