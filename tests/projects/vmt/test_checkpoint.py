import argparse

import pytest
import torch
from detectron2.modeling import build_model

from projects.vmt import checkpoint
from vis_core.checkpoint import VideoCheckpointer
from vis_core.errors import CheckpointError

PUBLISHED = {
    "transformer.decoder.bbox_embed.": "detr.bbox_embed.",
    "transformer.input_proj.": "detr.input_proj.",
    "transformer.query_embed.": "detr.query_embed.",
    "transformer.class_embed.": "detr.class_embed.",
    "transformer.": "detr.transformer.",
    "masks.": "",
    "mask_features.": "",
    "refiner.controller.": "controller_refine.",
    "refiner.encoder.": "encoder.",
    **{f"refiner.fuse.{i}.": f"conv_norm_relus_fuse_all_{i + 1}." for i in range(4)},
    "backbone.body.stem.conv1.norm.": "detr.backbone.0.body.bn1.",
    "backbone.body.stem.": "detr.backbone.0.body.",
}


def published(key: str) -> str:
    """The released name of one of our tensors (of a backbone's blocks: ours, which no rule touches)."""
    for ours, theirs in PUBLISHED.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key.replace("backbone.body.", "detr.backbone.0.body.")


@pytest.fixture(scope="module")
def model(small_config):
    torch.manual_seed(0)
    return build_model(small_config())


def test_a_file_with_a_namespace_and_aliases_loads_whole(model, small_config, tmp_path):
    weights = {published(key): value for key, value in model.state_dict().items()}
    for key, value in list(weights.items()):
        if key.startswith("detr.bbox_embed."):
            weights[key.replace("detr.", "detr.transformer.decoder.")] = value
    weights["detr.transformer.encoder.layers.0.self_attn.output_proj_box.weight"] = torch.zeros(32, 32)
    contents = {"model": weights, "epoch": 11, "args": argparse.Namespace(lr=1e-4), "optimizer": {"state": {}}}
    torch.save(contents, tmp_path / "vmt.pth")
    torch.manual_seed(1)
    fresh = build_model(small_config())
    VideoCheckpointer(fresh, require_all=True).load(str(tmp_path / "vmt.pth"))
    for key, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key


def test_our_own_files_are_left_alone(model):
    keys = model.state_dict().keys()
    assert not any(f(keys) for f in (checkpoint.is_vmt, checkpoint.is_seqformer, checkpoint.is_deformable_detr))


def test_seqformer_fills_everything_but_the_later_stages(model, small_config, tmp_path):
    later = ("refiner.", "masks.controller_inc.", "mask_features.l", "mask_features.conv")
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(later)}
    torch.save({"model": {published(key): value for key, value in state.items()}}, tmp_path / "seqformer.pth")
    torch.manual_seed(1)
    fresh = build_model(small_config())
    incompatible = VideoCheckpointer(fresh).load(str(tmp_path / "seqformer.pth"))
    assert incompatible == {}
    for key, value in state.items():
        assert torch.equal(fresh.state_dict()[key], value), key
    with pytest.raises(CheckpointError, match="does not fit VMT"):
        VideoCheckpointer(fresh, require_all=True).load(str(tmp_path / "seqformer.pth"))


def test_deformable_detr_begins_both_branches(model):
    ours = model.state_dict()
    single = {
        published(key).removeprefix("detr."): value
        for key, value in ours.items()
        if key.startswith(("transformer.", "backbone.")) and "_box." not in key and "time_attention" not in key
    }
    assert checkpoint.is_deformable_detr(single) and not checkpoint.is_seqformer(single)
    converted = checkpoint.convert_deformable_detr(single)
    wanted = {key for key in ours if key.startswith(("transformer.", "backbone."))}
    assert {key for key in wanted if key not in converted} == {
        f"transformer.decoder.layers.{i}.time_attention_weights.{end}" for i in range(2) for end in ("weight", "bias")
    }
    assert set(converted) <= wanted
    layer = "transformer.decoder.layers.1."
    for name in ("self_attn{}.in_proj_weight", "linear1{}.bias", "norm3{}.weight", "cross_attn.output_proj{}.weight"):
        assert torch.equal(converted[layer + name.format("_box")], ours[layer + name.format("")])
