import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from vis_core.modeling import FrozenStatsBatchNorm2d, freeze_bn_statistics


def small_net() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
    return net


def test_training_mode_uses_and_keeps_the_statistics():
    net, x = small_net(), torch.randn(2, 3, 5, 5)
    expected = net.eval()(x)
    before = net[1].running_mean.clone()
    frozen = freeze_bn_statistics(net).train()
    torch.testing.assert_close(frozen(x), expected)
    assert (frozen[1].running_mean == before).all()


def test_weight_and_bias_are_trained():
    net = freeze_bn_statistics(small_net()).train()
    net(torch.randn(2, 3, 5, 5)).square().sum().backward()
    for module in (net[1], net[2][1]):
        assert isinstance(module, FrozenStatsBatchNorm2d)
        assert module.weight.grad.abs().sum() > 0 and module.bias.grad.abs().sum() > 0


def test_files_with_and_without_batch_counts_fill_the_model():
    state = small_net().state_dict()
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    for file in (state, without):
        net = freeze_bn_statistics(small_net())
        net.load_state_dict(file, strict=True)
        assert net.state_dict().keys() == without.keys()
        assert all((value == without[key]).all() for key, value in net.state_dict().items())


def test_frozen_batch_norm_stays_and_counts_nothing():
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(small_net())
    net = freeze_bn_statistics(frozen)
    assert isinstance(net[1], FrozenBatchNorm2d)
    assert not any(key.endswith("num_batches_tracked") for key in net.state_dict())


def test_a_lone_batch_norm_is_replaced_and_group_norm_is_left():
    assert isinstance(freeze_bn_statistics(nn.BatchNorm2d(4)), FrozenStatsBatchNorm2d)
    group_norm = nn.GroupNorm(2, 4)
    assert freeze_bn_statistics(group_norm) is group_norm
