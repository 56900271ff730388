"""oneDNN's convolutions and linear layers against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.ops import onednn


@pytest.mark.parametrize("shape", [(1, 600, 16), (2, 300, 16), (512, 16), (3, 16), (2, 20, 30, 16)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear(shape, with_bias):
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(24, 16)
    bias = torch.randn(24) if with_bias else None
    result = onednn.linear(x, weight, bias)
    torch.testing.assert_close(result, F.linear(x, weight, bias))
    assert result.is_contiguous()


def test_linear_of_rows_that_are_not_contiguous():
    x, weight = torch.randn(16, 700).T, torch.randn(8, 16)
    torch.testing.assert_close(onednn.linear(x, weight, None), F.linear(x, weight))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(1, 1, 0, 1, 1), (3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (7, 2, 3, 1, 1), (3, 1, 2, 2, 1), (3, 1, 1, 1, 4)],
)
def test_conv2d(kernel, stride, padding, dilation, groups):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 8, 15, 22), torch.randn(12, 8 // groups, kernel, kernel), torch.randn(12)
    sizes = (stride, stride), (padding, padding), (dilation, dilation), groups
    result = onednn.conv2d(x, weight, bias, *sizes)
    torch.testing.assert_close(result, F.conv2d(x, weight, bias, *sizes))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_usable_only_where_it_computes_what_is_asked_for():
    x = torch.randn(1, 3, 4, 4)
    assert not onednn.usable(x)  # gradients may be asked for
    with torch.no_grad():
        assert onednn.usable(x) is torch.backends.mkldnn.is_available()
        assert not onednn.usable(x.double())
        assert not onednn.usable(x.to("meta"))
        assert not onednn.usable(x[:0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not onednn.usable(x)
