import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from projects.seq_mask_rcnn.checkpoint import convert, is_mmdet_1, is_released
from vis_core.checkpoint import VideoCheckpointer, find_converter
from vis_core.config import merge_config

DETECTOR = ["rpn_head.rpn_conv.weight", "bbox_head.fc_cls.weight", "mask_head.conv_logits.weight"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_families_are_told_apart(prefix):
    released = [prefix + key for key in [*DETECTOR, "prop_head.enc_pos.weight"]]
    older = [prefix + key for key in DETECTOR]
    assert is_released(released) and not is_mmdet_1(released)
    assert is_mmdet_1(older) and not is_released(older)
    assert find_converter(released).name == "Seq Mask R-CNN"
    assert find_converter(older).name == "mmdetection 1 Mask R-CNN"
    assert find_converter([*DETECTOR, "track_head.fcs.0.weight"]).name == "MaskTrack R-CNN of 2019"


def test_background_moves_and_what_is_unused_goes():
    converted = convert(
        {
            "module.bbox_head.fc_cls.bias": torch.arange(3.0),
            "module.bbox_head.fc_reg.bias": torch.arange(12.0),
            "module.mask_head.conv_logits.bias": torch.arange(3.0),
            "module.prop_head.conv_logits.bias": torch.arange(3.0),
            "module.prop_head.convs.0.conv.bias": torch.zeros(1),
            "module.prop_head.upsample.bias": torch.zeros(1),
            "module.prop_head.convFM.bias": torch.ones(2),
            "module.backbone.bn1.num_batches_tracked": torch.tensor(7),
        }
    )
    assert {key: value.tolist() for key, value in converted.items()} == {
        "roi_heads.box_predictor.cls_score.bias": [1, 2, 0],
        "roi_heads.box_predictor.bbox_pred.bias": [*range(4, 12)],
        "roi_heads.mask_head.predictor.bias": [1, 2],
        "prop_head.convFM.bias": [1, 1],
    }


def test_our_own_files_stay_as_they_are(small_config, tmp_path):
    model = build_model(small_config())
    state = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "own.pth")
    VideoCheckpointer(model, require_all=True).load(str(tmp_path / "own.pth"))
    assert all((value == state[key]).all() for key, value in model.state_dict().items())


@pytest.mark.parametrize("year", ["19", "21"])
@pytest.mark.parametrize(("name", "resnet"), [("r50", (50, 1, 64)), ("r101", (101, 1, 64)), ("x101", (101, 64, 4))])
@pytest.mark.parametrize("by_class", [False, True])
def test_published_settings(seq_configs, year, name, resnet, by_class):
    import projects

    file = f"ytvis{year}_{name}" + "_cate" * by_class
    cfg = merge_config(projects.default_config(), seq_configs / f"{file}.yaml")
    node = cfg.MODEL.SEQ_MASK_RCNN
    assert resnet == (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NUM_GROUPS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP)
    assert (f"ytvis_20{year}_val",) == cfg.DATASETS.TEST
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE_BACKEND) == (360, 640, "opencv")
    assert (node.KEY_NUM, node.MEM_STEP, node.MEM_NUM, node.MASK_NMS_IOU) == (5, 1, 0, 0.2)
    heads = cfg.MODEL.ROI_HEADS
    assert (heads.NUM_CLASSES, heads.SCORE_THRESH_TEST, heads.NMS_THRESH_TEST) == (40, 0.2, 0.5)
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 10
    assert ((True, 0.9) if by_class else (False, 0.5)) == (node.CATE_REDUCE.ENABLED, node.REDUCE.IOU_THRESH)
    assert (0.05, 0.001 if by_class else 0.05) == (node.REDUCE.SCORE_THRESH, node.OUTPUT_SCORE_THRESH)
    assert Path(cfg.MODEL.WEIGHTS).name == f"seq_mask_rcnn_{name}_ytv{year}.pth"
    assert json.dumps(node)  # plain values only
