import itertools

import pytest
import torch
from detectron2.modeling import build_model

from projects.masktrack_rcnn.checkpoint import convert, is_mmdet_mask_rcnn, is_mmtracking, is_original, matches, rename
from vis_core.checkpoint import VideoCheckpointer
from vis_core.errors import CheckpointError


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("detector.backbone.conv1.weight", "backbone.bottom_up.stem.conv1.weight"),
        ("detector.backbone.bn1.running_var", "backbone.bottom_up.stem.conv1.norm.running_var"),
        ("backbone.layer3.22.conv2.weight", "backbone.bottom_up.res4.22.conv2.weight"),
        ("backbone.layer1.0.bn3.bias", "backbone.bottom_up.res2.0.conv3.norm.bias"),
        ("backbone.layer4.0.downsample.0.weight", "backbone.bottom_up.res5.0.shortcut.weight"),
        ("backbone.layer4.0.downsample.1.weight", "backbone.bottom_up.res5.0.shortcut.norm.weight"),
        ("detector.neck.lateral_convs.0.conv.bias", "backbone.fpn_lateral2.bias"),
        ("detector.neck.fpn_convs.3.conv.weight", "backbone.fpn_output5.weight"),
        ("detector.rpn_head.rpn_reg.weight", "proposal_generator.rpn_head.anchor_deltas.weight"),
        ("detector.roi_head.bbox_head.shared_fcs.1.weight", "roi_heads.box_head.fc2.weight"),
        ("detector.roi_head.mask_head.convs.3.conv.bias", "roi_heads.mask_head.mask_fcn4.bias"),
        ("bbox_head.fc_reg.weight", "roi_heads.box_predictor.bbox_pred.weight"),
        ("track_head.embed_head.fcs.0.weight", "track_head.fc1.weight"),
        ("track_head.fcs.1.bias", "track_head.fc2.bias"),
        ("something.else", "something.else"),
    ],
)
def test_names(theirs, ours):
    assert rename(theirs) == ours


MMTRACKING = ["detector.rpn_head.rpn_conv.weight", "track_head.embed_head.fcs.0.weight"]
COCO = ["rpn_head.rpn_conv.weight", "roi_head.bbox_head.fc_cls.weight", "roi_head.mask_head.conv_logits.weight"]
ORIGINAL = ["rpn_head.rpn_conv.weight", "bbox_head.fc_cls.weight", "track_head.fcs.0.weight"]


def test_families_are_told_apart():
    for family, keys in ((is_mmtracking, MMTRACKING), (is_mmdet_mask_rcnn, COCO), (is_original, ORIGINAL)):
        assert [f(keys) for f in (is_mmtracking, is_mmdet_mask_rcnn, is_original)].count(True) == 1
        assert family(keys) and matches(keys)
    assert not matches(["backbone.bottom_up.stem.conv1.weight", "track_head.fc1.weight"])


def test_background_moves_to_the_end_in_the_file_of_2019_only():
    def file(keys):
        state = {key: torch.zeros(1) for key in keys}
        prefix = "" if keys is ORIGINAL else "roi_head."
        state[f"{prefix}bbox_head.fc_cls.weight"] = torch.arange(3.0)[:, None]
        state[f"{prefix}bbox_head.fc_reg.bias"] = torch.arange(12.0)
        state[f"{prefix}mask_head.conv_logits.bias"] = torch.arange(3.0)
        converted = convert(state)
        names = ("box_predictor.cls_score.weight", "box_predictor.bbox_pred.bias", "mask_head.predictor.bias")
        return [converted[f"roi_heads.{name}"].flatten().tolist() for name in names]

    assert file(ORIGINAL) == [[1, 2, 0], list(range(4, 12)), [1, 2]]
    assert file(COCO) == [[0, 1, 2], list(range(12)), [0, 1, 2]]


@pytest.fixture(scope="module")
def model(tiny_config):
    # As in the published models, so that every rule has something to rename.
    published = {
        "MODEL.BACKBONE.FREEZE_BN_STATISTICS": "True",
        "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
        "MODEL.FPN.NORM": "",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": "0",
        "MODEL.ROI_BOX_HEAD.NUM_FC": "2",
    }
    return build_model(tiny_config(*itertools.chain(*published.items())))


def published_names(model, prefix: str = "detector.") -> dict[str, torch.Tensor]:
    """The model's state under mmtracking's names: the inverse of the rules, for this small model."""
    inverse = {
        "backbone.bottom_up.stem.conv1.norm.": "backbone.bn1.",
        "backbone.bottom_up.stem.conv1.": "backbone.conv1.",
        "proposal_generator.rpn_head.conv.": "rpn_head.rpn_conv.",
        "proposal_generator.rpn_head.objectness_logits.": "rpn_head.rpn_cls.",
        "proposal_generator.rpn_head.anchor_deltas.": "rpn_head.rpn_reg.",
        "roi_heads.box_predictor.cls_score.": "roi_head.bbox_head.fc_cls.",
        "roi_heads.box_predictor.bbox_pred.": "roi_head.bbox_head.fc_reg.",
        "roi_heads.mask_head.deconv.": "roi_head.mask_head.upsample.",
        "roi_heads.mask_head.predictor.": "roi_head.mask_head.conv_logits.",
    }
    for k in (1, 2):
        inverse[f"roi_heads.box_head.fc{k}."] = f"roi_head.bbox_head.shared_fcs.{k - 1}."
        inverse[f"roi_heads.mask_head.mask_fcn{k}."] = f"roi_head.mask_head.convs.{k - 1}.conv."
        inverse[f"track_head.fc{k}."] = f"track_head.embed_head.fcs.{k - 1}."
    for level in (2, 3, 4, 5):
        inverse[f"backbone.fpn_lateral{level}."] = f"neck.lateral_convs.{level - 2}.conv."
        inverse[f"backbone.fpn_output{level}."] = f"neck.fpn_convs.{level - 2}.conv."
        inverse[f"backbone.bottom_up.res{level}.0.shortcut.norm."] = f"backbone.layer{level - 1}.0.downsample.1."
        inverse[f"backbone.bottom_up.res{level}.0.shortcut."] = f"backbone.layer{level - 1}.0.downsample.0."
        for k in (1, 2):
            inverse[f"backbone.bottom_up.res{level}.0.conv{k}.norm."] = f"backbone.layer{level - 1}.0.bn{k}."
            inverse[f"backbone.bottom_up.res{level}.0.conv{k}."] = f"backbone.layer{level - 1}.0.conv{k}."
    renamed = {}
    for key, value in model.state_dict().items():
        ours, theirs = next(pair for pair in inverse.items() if key.startswith(pair[0]))
        renamed[("" if ours.startswith("track_head") else prefix) + theirs + key.removeprefix(ours)] = value
    return renamed


def test_a_published_file_loads_through_model_weights(model, tmp_path):
    state = {key: torch.randn_like(value) for key, value in published_names(model).items()}
    state["detector.backbone.bn1.num_batches_tracked"] = torch.tensor(5)
    path = tmp_path / "masktrack_rcnn.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, path)
    VideoCheckpointer(model, require_all=True).load(str(path))
    ours = model.state_dict()
    assert all((ours[rename(key)] == value).all() for key, value in state.items() if "num_batches" not in key)


def test_a_coco_file_leaves_what_does_not_fit(model, tmp_path):
    state = published_names(model, prefix="")
    state = {key: torch.randn_like(value) for key, value in state.items() if not key.startswith("track_head")}
    fc_cls = "roi_head.bbox_head.fc_cls.weight"
    state[fc_cls] = torch.randn(81, state[fc_cls].shape[1])
    before = model.roi_heads.box_predictor.cls_score.weight.clone()
    path = tmp_path / "mask_rcnn_coco.pth"
    torch.save({"state_dict": state}, path)
    VideoCheckpointer(model).load(str(path))
    assert (model.roi_heads.box_predictor.cls_score.weight == before).all()
    assert (model.proposal_generator.rpn_head.conv.weight == state["rpn_head.rpn_conv.weight"]).all()
    with pytest.raises(CheckpointError, match="mask_rcnn_coco"):
        VideoCheckpointer(model, require_all=True).load(str(path))
