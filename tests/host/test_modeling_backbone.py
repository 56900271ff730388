import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import FPN, build_backbone, make_stage
from detectron2.modeling.backbone import Backbone, BasicBlock, BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from weights import fill


def filled(module):
    """The module with weights that depend on their names only."""
    state = module.state_dict()
    module.load_state_dict({k: torch.as_tensor(fill(k, v.shape)) for k, v in state.items() if v.is_floating_point()})
    return module


def plain_conv(state, name, x, stride=1, groups=1, dilation=1):
    """Convolution and constant batch norm by their formulas' plain functions."""
    weight = state[f"{name}.weight"]
    x = F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, groups)
    norm = {k: state[f"{name}.norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
    return F.batch_norm(x, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"], False, eps=1e-5)


def resnet_cfg(depth=18, **settings):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for key, value in settings.items():
        setattr(cfg.MODEL.RESNETS, key, value)
    return cfg


@torch.no_grad()
def test_resnet_18_is_what_the_paper_says_bit_for_bit():
    net = filled(build_backbone(resnet_cfg())).eval()
    state = net.state_dict()
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    outputs = net(image)
    x = F.max_pool2d(F.relu(plain_conv(state, "stem.conv1", image, stride=2)), 3, 2, 1)
    for stage in (2, 3, 4, 5):
        for block in (0, 1):
            name = f"res{stage}.{block}"
            stride = 2 if stage > 2 and block == 0 else 1
            hidden = F.relu(plain_conv(state, f"{name}.conv1", x, stride))
            shortcut = plain_conv(state, f"{name}.shortcut", x, stride) if stride == 2 else x
            x = F.relu(plain_conv(state, f"{name}.conv2", hidden) + shortcut)
        assert torch.equal(outputs[f"res{stage}"], x)


@torch.no_grad()
@pytest.mark.parametrize("stride_in_1x1", [True, False])
@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (4, 2)])
def test_bottleneck_is_what_the_paper_says_bit_for_bit(stride_in_1x1, groups, dilation):
    block = BottleneckBlock(
        8,
        16,
        bottleneck_channels=12,
        stride=2,
        num_groups=groups,
        norm="FrozenBN",
        stride_in_1x1=stride_in_1x1,
        dilation=dilation,
    )
    state = filled(block).state_dict()
    x = torch.randn(2, 8, 9, 11, generator=torch.Generator().manual_seed(0))
    first, second = (2, 1) if stride_in_1x1 else (1, 2)
    out = F.relu(plain_conv(state, "conv1", x, first))
    out = F.relu(plain_conv(state, "conv2", out, second, groups, dilation))
    out = F.relu(plain_conv(state, "conv3", out) + plain_conv(state, "shortcut", x, 2))
    assert torch.equal(block(x), out)


def test_gradients_reach_every_trainable_weight_through_in_place_operations():
    net = filled(build_backbone(resnet_cfg(50, NUM_GROUPS=2, WIDTH_PER_GROUP=4, RES2_OUT_CHANNELS=16)))
    sum(out.square().mean() for out in net(torch.randn(1, 3, 64, 64)).values()).backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("freeze_at", range(6))
def test_freezing_stops_gradients_and_batch_norm(freeze_at):
    cfg = resnet_cfg(NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    net = build_backbone(cfg)
    for number, name in enumerate(["stem", "res2", "res3", "res4", "res5"], start=1):
        part = getattr(net, name)
        assert all(p.requires_grad == (number > freeze_at) for p in part.parameters()), name
        assert any(isinstance(m, FrozenBatchNorm2d) for m in part.modules()) == (number <= freeze_at), name


def test_a_seed_gives_the_same_weights_whichever_stages_are_kept():
    torch.manual_seed(5)
    whole = build_backbone(resnet_cfg())
    after = torch.rand(1)
    torch.manual_seed(5)
    part = build_backbone(resnet_cfg(OUT_FEATURES=["stem", "res3"]))
    assert torch.equal(torch.rand(1), after)
    assert list(part(torch.zeros(1, 3, 32, 32))) == ["stem", "res3"] and not hasattr(part, "res4")
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in part.state_dict().items())


def test_shapes_and_strides_are_as_announced():
    for settings in ({}, {"depth": 50, "RES5_DILATION": 2, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 4}):
        net = build_backbone(resnet_cfg(**settings), ShapeSpec(channels=5))
        outputs = net(torch.zeros(1, 5, 64, 128))
        assert list(outputs) == list(net.output_shape()) == ["res2", "res3", "res4", "res5"]
        for name, shape in net.output_shape().items():
            expected = (1, shape.channels, 64 // shape.stride, 128 // shape.stride)
            assert outputs[name].shape == expected
    assert net.output_shape()["res5"].stride == 16
    assert net.res5[1].conv2.dilation == (2, 2) and net.res4[1].conv2.dilation == (1, 1)


def test_classifier_is_the_default_output():
    blocks = make_stage(BasicBlock, 2, in_channels=8, out_channels=16, stride_per_block=[2, 1], norm="BN")
    net = ResNet(BasicStem(3, 8), [blocks], num_classes=7)
    assert net(torch.zeros(2, 3, 32, 32))["linear"].shape == (2, 7)


def test_make_stage_gives_each_block_its_own_settings():
    blocks = make_stage(BasicBlock, 3, in_channels=4, out_channels=8, stride_per_block=[2, 1, 1], norm="")
    assert [(b.in_channels, b.out_channels, b.stride) for b in blocks] == [(4, 8, 2), (8, 8, 1), (8, 8, 1)]
    for wrong in ({"stride_per_block": [2, 1]}, {"stride_per_block": [2, 1, 1], "stride": 1}):
        with pytest.raises(AssertionError):
            make_stage(BasicBlock, 3, in_channels=4, out_channels=8, **wrong)


def test_basic_resnets_refuse_what_only_bottlenecks_can_do():
    for settings in ({"RES2_OUT_CHANNELS": 256}, {"RES5_DILATION": 2}, {"NUM_GROUPS": 2}):
        with pytest.raises(AssertionError):
            build_backbone(resnet_cfg(18, **settings))


# -------------------------------------------------------------------------------------------------------------- FPN
class Pyramid(Backbone):
    """Stands in for a backbone: average-pools the image."""

    def __init__(self, strides=(4, 8, 16, 32)):
        super().__init__()
        self._out_features = [f"s{stride}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides))
        self._out_feature_channels = dict.fromkeys(self._out_features, 3)

    def forward(self, x):
        return {name: F.avg_pool2d(x, stride) for name, stride in self._out_feature_strides.items()}


@torch.no_grad()
@pytest.mark.parametrize("fuse_type", ["sum", "avg"])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_fpn_adds_coarse_to_fine(fuse_type, norm):
    names = ["s8", "s16", "s32"]
    fpn = filled(FPN(Pyramid(), names, 32, norm, LastLevelMaxPool(), fuse_type)).eval()
    # The top block pools the map called p5, which is the coarsest here.
    state, image = fpn.state_dict(), torch.randn(2, 3, 64, 96)
    outputs = fpn(image)
    assert list(outputs) == ["p3", "p4", "p5", "p6"]

    def conv(name, x):
        weight = state[f"{name}.weight"]
        x = F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)
        return F.group_norm(x, 32, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]) if norm else x

    merged = None
    for stage in (5, 4, 3):
        lateral = conv(f"fpn_lateral{stage}", F.avg_pool2d(image, 2**stage))
        if merged is not None:
            merged = merged.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            lateral = (lateral + merged) / (2 if fuse_type == "avg" else 1)
        merged = lateral
        assert torch.equal(outputs[f"p{stage}"], conv(f"fpn_output{stage}", merged))
    assert torch.equal(outputs["p6"], outputs["p5"][:, :, ::2, ::2])
    assert {k: (v.channels, v.stride) for k, v in fpn.output_shape().items()} == {
        f"p{stage}": (32, 2**stage) for stage in (3, 4, 5, 6)
    }
    assert any(key.endswith("bias") and "norm" not in key for key in state) == (norm == "")


def test_fpn_knows_its_padding_and_refuses_gaps():
    fpn = FPN(Pyramid(), ["s4", "s8"], 8, square_pad=64)
    assert fpn.size_divisibility == 8 and fpn.padding_constraints == {"square_size": 64}
    with pytest.raises(AssertionError):
        FPN(Pyramid(), ["s4", "s16"], 8)
    with pytest.raises(AssertionError):
        FPN(Pyramid(), ["s4", "s8"], 8, fuse_type="max")


def test_fpn_with_levels_6_and_7_by_convolution():
    fpn = FPN(Pyramid(), ["s16", "s32"], 8, top_block=LastLevelP6P7(3, 8, in_feature="s32"))
    outputs = fpn(torch.randn(1, 3, 128, 128))
    assert {k: v.shape[-1] for k, v in outputs.items()} == {"p4": 8, "p5": 4, "p6": 2, "p7": 1}
    block = fpn.top_block
    p7 = F.conv2d(F.relu(outputs["p6"]), block.p7.weight, block.p7.bias, stride=2, padding=1)
    assert torch.equal(outputs["p7"], p7)
    assert {k.removeprefix("top_block.") for k in fpn.state_dict() if k.startswith("top_block")} == {
        "p6.weight",
        "p6.bias",
        "p7.weight",
        "p7.bias",
    }
