import pytest
import torch
from detectron2.checkpoint.caffe2_names import from_caffe2_name, from_caffe2_state


@pytest.mark.parametrize(
    "old, new",
    [
        ("conv1_w", "stem.conv1.weight"),
        ("conv1_b", "stem.conv1.bias"),
        ("res_conv1_bn_s", "stem.conv1.norm.weight"),
        ("res_conv1_bn_b", "stem.conv1.norm.bias"),
        ("res_conv1_bn_rm", "stem.conv1.norm.running_mean"),
        ("res_conv1_bn_riv", "stem.conv1.norm.running_var"),
        ("conv1_gn_s", "stem.conv1.norm.weight"),
        ("res2_0_branch1_w", "res2.0.shortcut.weight"),
        ("res2_0_branch1_bn_beta", "res2.0.shortcut.norm.bias"),
        ("res3_1_branch2a_w", "res3.1.conv1.weight"),
        ("res4_22_branch2b_bn_gamma", "res4.22.conv2.norm.weight"),
        ("res5_2_branch2c_gn_b", "res5.2.conv3.norm.bias"),
        ("fpn_inner_res5_2_sum_w", "fpn_lateral5.weight"),
        ("fpn_inner_res4_5_sum_lateral_b", "fpn_lateral4.bias"),
        ("fpn_inner_res4_5_sum_lateral_gn_s", "fpn_lateral4.norm.weight"),
        ("fpn_res2_2_sum_w", "fpn_output2.weight"),
        ("conv_rpn_fpn2_w", "proposal_generator.rpn_head.conv.weight"),
        ("conv_rpn_w", "proposal_generator.rpn_head.conv.weight"),
        ("rpn_cls_logits_fpn2_b", "proposal_generator.rpn_head.objectness_logits.bias"),
        ("rpn_bbox_pred_fpn2_w", "proposal_generator.rpn_head.anchor_deltas.weight"),
        ("head_conv1_w", "box_head.conv1.weight"),
        ("fc6_w", "box_head.fc1.weight"),
        ("fc7_b", "box_head.fc2.bias"),
        ("cls_score_w", "box_predictor.cls_score.weight"),
        ("bbox_pred_b", "box_predictor.bbox_pred.bias"),
        ("_[mask]_fcn1_w", "mask_head.mask_fcn1.weight"),
        ("_[mask]_fcn4_b", "mask_head.mask_fcn4.bias"),
        ("conv5_mask_w", "mask_head.deconv.weight"),
        ("mask_fcn_logits_w", "mask_head.predictor.weight"),
    ],
)
def test_names(old, new):
    assert from_caffe2_name(old) == new


def test_background_moves_to_the_end():
    rows = torch.arange(12.0)[:, None]  # (3 classes · 4, 1)
    state = {
        "cls_score_w": rows[:3],
        "cls_score_b": rows[:3, 0],
        "bbox_pred_w": rows,
        "mask_fcn_logits_w": rows[:3],
        "fc6_b": rows[:3, 0],
        "rpn_bbox_pred_w": rows,
    }
    found = {name: value.flatten().tolist() for name, value in from_caffe2_state(state).items()}
    assert found["box_predictor.cls_score.weight"] == found["box_predictor.cls_score.bias"] == [1, 2, 0]
    assert found["box_predictor.bbox_pred.weight"] == list(range(4, 12))
    assert found["mask_head.predictor.weight"] == [1, 2]
    assert found["box_head.fc1.bias"] == [0, 1, 2]
    assert found["proposal_generator.rpn_head.anchor_deltas.weight"] == list(range(12))


def test_class_agnostic_mask_predictor_keeps_its_row():
    assert from_caffe2_state({"mask_fcn_logits_w": torch.ones(1, 4)})["mask_head.predictor.weight"].shape == (1, 4)


def test_two_blobs_of_one_name():
    with pytest.raises(ValueError, match="conv_rpn"):
        from_caffe2_state({"conv_rpn_w": torch.ones(1), "conv_rpn_fpn2_w": torch.ones(1)})
