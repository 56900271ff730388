import pytest

from vis_core.checkpoint import rename_mask_rcnn, rename_resnet


@pytest.mark.parametrize(
    "name, ours",
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_mean", "stem.conv1.norm.running_mean"),
        ("layer1.0.conv3.weight", "res2.0.conv3.weight"),
        ("layer3.22.bn2.bias", "res4.22.conv2.norm.bias"),
        ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
        ("layer4.0.downsample.1.weight", "res5.0.shortcut.norm.weight"),
    ],
)
def test_names_of_a_resnet(name, ours):
    assert rename_resnet(name) == ours
    assert rename_mask_rcnn(f"backbone.{name}") == f"backbone.bottom_up.{ours}"


@pytest.mark.parametrize("name", ["layers.0.blocks.0.attn.qkv.weight", "fc.weight", "backbone.conv1.weight"])
def test_other_names_stay(name):
    assert rename_resnet(name) == name
    assert rename_mask_rcnn(f"backbone.{name}") == f"backbone.{name}"
