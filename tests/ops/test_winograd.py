"""Winograd's convolution against a direct one in double precision."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.ops import winograd


@pytest.mark.parametrize(
    ("batch", "channels", "size"),
    [
        (1, (3, 5), (4, 4)),
        (2, (8, 4), (7, 13)),
        (1, (1, 1), (1, 1)),
        (3, (5, 8), (2, 97)),
        (1, (16, 16), (50, 66)),
        (1, (256, 256), (24, 40)),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("with_bias", [True, False])
def test_is_the_convolution_within_the_stated_error(batch, channels, size, layout, with_bias):
    torch.manual_seed(0)
    x = torch.randn(batch, channels[0], *size).contiguous(memory_format=layout)
    weight = torch.randn(channels[1], channels[0], 3, 3).contiguous(memory_format=layout)
    bias = torch.randn(channels[1]) if with_bias else None
    expected = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    result = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert result.shape == expected.shape
    assert result.is_contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else layout)
    assert (result - expected).abs().max() <= 5e-6 * expected.abs().max()


def test_chunks_of_rows_fit_together(monkeypatch):
    x, weight = torch.randn(1, 4, 30, 22), torch.randn(6, 4, 3, 3)
    whole = winograd.conv3x3(x, winograd.transform(weight))
    monkeypatch.setattr(winograd, "TILES_AT_ONCE", 1)
    torch.testing.assert_close(winograd.conv3x3(x, winograd.transform(weight)), whole, atol=1e-4, rtol=0)


def test_inputs_stay_as_they_were():
    x, weight, bias = torch.randn(1, 4, 9, 9), torch.randn(4, 4, 3, 3), torch.randn(4)
    before = [tensor.clone() for tensor in (x, weight, bias)]
    winograd.conv3x3(x, winograd.transform(weight), bias)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, weight, bias)))


@pytest.mark.parametrize(
    ("channels", "size", "expected"),
    [
        ((128, 128), (24, 20), True),
        ((256, 512), (22, 17), True),
        ((256, 256), (20, 20), False),
        ((64, 256), (96, 160), False),
        ((256, 64), (96, 160), False),
    ],
)
def test_pays_off_only_from_a_size_on(channels, size, expected):
    x, weight = torch.empty(1, channels[0], *size), torch.empty(channels[1], channels[0], 3, 3)
    assert winograd.pays_off(x, weight) is expected
