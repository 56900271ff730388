"""The faster twin of a network on a CPU."""

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn import functional as F

from vis_core.modeling import for_inference, with_winograd
from vis_core.modeling.norm import FrozenStatsBatchNorm2d


class Network(nn.Module):
    """Every kind of layer that is changed, and some that are not."""

    def __init__(self, norm=FrozenBatchNorm2d):
        super().__init__()
        self.stem = Conv2d(3, 256, 3, stride=2, padding=1, bias=False, norm=norm(256), activation=F.relu_)
        self.wide = nn.Conv2d(256, 256, 3, padding=1)
        self.same = nn.Conv2d(256, 8, 3, padding="same")
        self.grouped = Conv2d(8, 8, 3, padding=1, groups=4, bias=True, norm=norm(8))
        self.normed = Conv2d(8, 8, 1, norm=nn.GroupNorm(2, 8))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out = nn.Linear(8, 6)

    def forward(self, x):
        x = self.normed(self.grouped(self.same(self.wide(self.stem(x)))))
        return self.out(self.up(x).flatten(2).transpose(1, 2))


def make(norm=FrozenBatchNorm2d) -> Network:
    torch.manual_seed(0)
    network = Network(norm).eval()
    for module in network.modules():
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)):
            for x in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                x.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, FrozenStatsBatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("twin", [for_inference, with_winograd])
@torch.no_grad()
def test_same_outputs(norm, twin):
    network, x = make(norm), torch.randn(2, 3, 100, 170)
    expected, result = network(x), twin(network)(x)
    torch.testing.assert_close(result, expected, atol=2e-5 * expected.abs().max().item(), rtol=0)


@torch.no_grad()
def test_uses_the_faster_layers(monkeypatch):
    from vis_core.ops import onednn, winograd

    calls = []
    for module, name in ((winograd, "conv3x3"), (onednn, "conv2d"), (onednn, "linear")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, f=function, n=name: calls.append(n) or f(*args))
    network = make()
    network(torch.randn(1, 3, 100, 170))
    assert calls == []
    for_inference(network)(torch.randn(1, 3, 100, 170))
    assert calls == ["conv2d", "conv3x3", "conv2d", "conv2d", "linear"]
    calls.clear()
    with_winograd(network)(torch.randn(1, 3, 100, 170))
    assert calls == ["conv3x3"]


@pytest.mark.parametrize("make_twin", [for_inference, with_winograd])
@torch.no_grad()
def test_the_network_stays_as_it_is(make_twin):
    network = make()
    before = copy.deepcopy(network.state_dict())
    types = [type(module) for module in network.modules()]
    twin = make_twin(network)
    twin(torch.randn(1, 3, 100, 170))
    assert [type(module) for module in network.modules()] == types
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(x, before[key]) for key, x in network.state_dict().items())
    assert all(x.requires_grad for x in network.parameters())
    assert twin.out.weight is network.out.weight


@torch.no_grad()
def test_a_twin_made_later_has_the_new_weights():
    network, x = make(), torch.randn(1, 3, 20, 20)
    for_inference(network)
    for parameter in network.parameters():
        parameter.mul_(0.5)
    torch.testing.assert_close(for_inference(network)(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make_twin", [for_inference, with_winograd])
def test_none_in_training_in_double_precision_and_elsewhere(make_twin):
    assert make_twin(network := make().train()) is network
    assert make_twin(network := make().double()) is network
    assert make_twin(network := make().to("meta")) is network


@pytest.mark.parametrize("make_twin", [for_inference, with_winograd])
def test_with_autocast_and_with_gradients_the_usual_layers_run(make_twin):
    network, x = make(), torch.randn(1, 3, 100, 170)
    twin = make_twin(network)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert twin(x).dtype == torch.bfloat16
    x.requires_grad_()
    mine, theirs = (torch.autograd.grad(net(x).square().sum(), x)[0] for net in (twin, network))
    torch.testing.assert_close(mine, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=0)
