"""The Triton kernels on CPU tensors. Run by test_deform_attn_triton.py in a process that interprets kernels."""

import os

import pytest
import torch

from vis_core.ops import deform_attn_torch, deform_attn_triton

assert os.environ.get("TRITON_INTERPRET") == "1", "must be set before Triton is imported"

# Sizes that are no powers of two, maps of one line or column, more queries than a program takes.
CASES = {
    "two levels": dict(shapes=[(3, 4), (6, 8)], N=2, M=2, D=8, Q=7, P=2),
    "odd": dict(shapes=[(5, 7), (1, 3), (2, 1), (1, 1)], N=1, M=3, D=6, Q=35, P=1),
}


def inputs(shapes, N, M, D, Q, P, dtype):
    g = torch.Generator().manual_seed(0)
    num_tokens = sum(h * w for h, w in shapes)
    value = torch.randn(N, num_tokens, M, D, generator=g).to(dtype)
    locations = torch.rand(N, Q, M, len(shapes), P, 2, generator=g) * 2 - 0.5  # half a map outside on every side
    locations[0, 0, 0, 0, 0] = torch.tensor([1e30, -1e30])
    weights = torch.randn(N, Q, M, len(shapes), P, generator=g)
    grad = torch.randn(N, Q, M * D, generator=g).to(dtype)
    if dtype == torch.float64:
        locations, weights = locations.double(), weights.double()
    return value, locations, weights, grad


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.float16, 2e-3)])
@pytest.mark.parametrize("case", CASES)
def test_forward_and_backward(case, dtype, tolerance):
    shapes = CASES[case]["shapes"]
    value, locations, weights, grad = inputs(**CASES[case], dtype=dtype)
    ours = [
        deform_attn_triton.forward(value, shapes, locations, weights),
        *deform_attn_triton.backward(grad, value, shapes, locations, weights),
    ]
    reference = [
        deform_attn_torch.forward(value, shapes, locations, weights),
        *deform_attn_torch.backward(grad, value, shapes, locations, weights),
    ]
    for mine, theirs in zip(ours, reference):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_what_is_not_a_number_shows():
    value, locations, weights, _ = inputs(**CASES["two levels"], dtype=torch.float32)
    locations[0, 3, 1, 0, 0, 0] = float("nan")
    shapes = CASES["two levels"]["shapes"]
    for backend in (deform_attn_triton, deform_attn_torch):
        out = backend.forward(value, shapes, locations, weights)
        assert out[0, 3, 8:].isnan().all()
        assert out.isnan().sum() == 8


def test_nothing_to_do():
    value, locations, weights, grad = inputs(**{**CASES["odd"], "Q": 1}, dtype=torch.float32)
    locations, weights, grad = locations[:, :0], weights[:, :0], grad[:, :0]
    shapes = CASES["odd"]["shapes"]
    assert deform_attn_triton.forward(value, shapes, locations, weights).shape == (1, 0, 18)
    grad_value, *_ = deform_attn_triton.backward(grad, value, shapes, locations, weights)
    assert grad_value.shape == value.shape and not grad_value.any()
