"""Group normalisation in channels_last against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.ops.group_norm import group_norm


def channels_last(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width) * torch.rand(channels, 1, 1) + 3 * torch.randn(channels, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("shape", "groups"), [((2, 12, 7, 9), 3), ((1, 8, 1, 5), 8), ((3, 6, 4, 4), 1)])
def test_same_as_pytorchs(shape, groups):
    x, weight, bias = channels_last(*shape), torch.randn(shape[1]), torch.randn(shape[1])
    result = group_norm(x, groups, weight, bias, 1e-3)
    torch.testing.assert_close(result, F.group_norm(x, groups, weight, bias, 1e-3), atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_large_map_is_as_exact_as_in_the_usual_memory_format():
    x, one, zero = channels_last(1, 64, 200, 300), torch.ones(64), torch.zeros(64)
    exact = F.group_norm(x.double(), 32, one.double(), zero.double())
    error = (group_norm(x, 32, one, zero) - exact).std()
    assert error < 2 * (F.group_norm(x.contiguous(), 32, one, zero) - exact).std()
