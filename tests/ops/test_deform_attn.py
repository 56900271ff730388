"""Multi-scale deformable attention on any device: values, derivatives, types, errors, and as a torch operator."""

import numpy as np
import pytest
import torch

from benchmarks.grid_sample_msda import grid_sample_msda
from vis_core.ops import deform_attn_torch, ms_deform_attn

SHAPES = [(5, 7), (3, 4), (1, 3), (2, 1), (1, 1)]


def inputs(shapes=SHAPES, N=2, M=3, D=5, Q=9, P=2, dtype=torch.float64, seed=0):
    """Locations reach half a map outside on every side."""
    g = torch.Generator().manual_seed(seed)
    num_tokens = sum(h * w for h, w in shapes)
    value = torch.randn(N, num_tokens, M, D, generator=g, dtype=dtype)
    locations = torch.rand(N, Q, M, len(shapes), P, 2, generator=g, dtype=dtype) * 2 - 0.5
    weights = torch.randn(N, Q, M, len(shapes), P, generator=g, dtype=dtype)
    return value, locations, weights


def grads(function, value, locations, weights):
    leaves = [x.clone().requires_grad_() for x in (value, locations, weights)]
    out = function(*leaves)
    pull = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out).to(out.dtype)
    return out.detach(), *torch.autograd.grad((out * pull).sum(), leaves)


@pytest.mark.parametrize("shapes", [SHAPES, [(1, 1)], [(6, 2)], [(1, 9), (9, 1)]])
def test_same_as_grid_sample(shapes):
    args = inputs(shapes)
    ours = grads(lambda v, l, w: ms_deform_attn(v, shapes, l, w), *args)
    theirs = grads(lambda v, l, w: grid_sample_msda(v, shapes, l, w), *args)
    for mine, reference in zip(ours, theirs):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)


def test_chunks_make_no_difference(monkeypatch):
    args = inputs(N=1, Q=11)
    whole = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), *args)
    monkeypatch.setattr(deform_attn_torch, "CHUNK", 70 // torch.get_num_threads())
    chunked = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), *args)
    for mine, reference in zip(chunked, whole):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-13)


def test_gradcheck():
    leaves = [x.requires_grad_() for x in inputs([(4, 3), (2, 5), (1, 2)], N=1, M=2, D=3, Q=4)]
    assert torch.autograd.gradcheck(lambda v, l, w: ms_deform_attn(v, [(4, 3), (2, 5), (1, 2)], l, w), leaves)


def test_one_sided_derivative_on_pixel_centres():
    """Where the derivative jumps, it is the one towards greater coordinates, also at the last pixel."""
    value = torch.tensor([1.0, 5.0, 7.0, 2.0]).view(1, 4, 1, 1)
    locations = torch.full((1, 4, 1, 1, 1, 2), 0.5)
    locations[0, :, 0, 0, 0, 0] = (torch.arange(4) + 0.5) / 4
    weights = torch.ones(1, 4, 1, 1, 1)
    _, grad, _ = deform_attn_torch.backward(torch.ones(1, 4, 1), value, [(1, 4)], locations, weights)
    assert grad[0, :, 0, 0, 0, 0].tolist() == [4 * 4.0, 4 * 2.0, 4 * -5.0, 4 * -2.0]


def test_row_dots_of_both_ways_agree(monkeypatch):
    bags, table = torch.randn(6, 5), torch.randn(10, 5)
    index = torch.randint(10, (6, 4), dtype=torch.int32)
    expected = torch.einsum("bd,bkd->bk", bags, table[index.long()])
    torch.testing.assert_close(deform_attn_torch.row_dots(bags, table, index), expected)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    torch.testing.assert_close(deform_attn_torch.row_dots(bags, table, index), expected)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_types(dtype, tolerance):
    """Low precision loses no more than its own rounding of inputs and results; each gradient has its input's type."""
    value, locations, weights = inputs()
    value = value.to(dtype)
    locations, weights = locations.float(), weights.float()
    ours = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), value, locations, weights)
    assert [x.dtype for x in ours] == [dtype, dtype, torch.float32, torch.float32]
    exact = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), value.double(), locations.double(), weights.double())
    for mine, reference in zip(ours, exact):
        torch.testing.assert_close(mine.double(), reference, rtol=tolerance, atol=tolerance * reference.abs().max())


def test_autocast_leaves_the_sums_alone():
    value, locations, weights = (x.float() for x in inputs())
    plain = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), value, locations, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), value, locations, weights)
    for mine, reference in zip(cast, plain):
        torch.testing.assert_close(mine, reference, rtol=0, atol=0)


def test_a_torch_operator():
    leaves = [x.requires_grad_() for x in inputs([(4, 3), (2, 5)], N=1, M=2, D=3, Q=4, dtype=torch.float32)]
    value, locations, weights = leaves
    torch.library.opcheck(torch.ops.vis_core.ms_deform_attn, (value, [4, 3, 2, 5], locations, weights))


def test_exports_for_maps_of_any_size():
    class Sampled(torch.nn.Module):
        def forward(self, maps, locations, weights):
            size = maps.shape[1:3]
            return ms_deform_attn(maps.flatten(1, 2), [size], locations, weights)

    def inputs(height, width):
        g = torch.Generator().manual_seed(0)
        return (
            torch.rand(1, height, width, 2, 4, generator=g),
            torch.rand(1, 5, 2, 1, 3, 2, generator=g),
            torch.rand(1, 5, 2, 1, 3),
        )

    dim = torch.export.Dim
    shapes = {
        "maps": {1: dim("height", min=2, max=99), 2: dim("width", min=2, max=99)},
        "locations": None,
        "weights": None,
    }
    exported = torch.export.export(Sampled(), inputs(4, 6), dynamic_shapes=shapes).module()
    args = inputs(9, 5)
    torch.testing.assert_close(exported(*args), Sampled()(*args))


def test_compiles_without_graph_break():
    args = inputs(dtype=torch.float32)
    compiled = torch.compile(lambda v, l, w: 2 * ms_deform_attn(v, SHAPES, l, w), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*args), 2 * ms_deform_attn(args[0], SHAPES, *args[1:]))


def test_shapes_as_tensor_and_strided_inputs():
    value, locations, weights = inputs()
    expected = ms_deform_attn(value, SHAPES, locations, weights)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (value, locations, weights)]
    assert not any(x.is_contiguous() for x in strided)
    torch.testing.assert_close(ms_deform_attn(strided[0], torch.tensor(SHAPES), *strided[1:]), expected, rtol=0, atol=0)
    for mine, reference in zip(
        grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), *strided),
        grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), value, locations, weights),
    ):
        torch.testing.assert_close(mine, reference, rtol=0, atol=0)


@pytest.mark.parametrize("images, queries", [(0, 3), (2, 0)])
def test_nothing_to_do(images, queries):
    args = inputs(N=images, Q=queries)
    out, grad_value, grad_locations, grad_weights = grads(lambda v, l, w: ms_deform_attn(v, SHAPES, l, w), *args)
    assert out.shape == (images, queries, 15)
    assert grad_value.shape == args[0].shape and not grad_value.any()
    assert grad_locations.shape == args[1].shape and grad_weights.shape == args[2].shape


def test_what_is_not_a_number_shows():
    """A diverged network must end in NaN, which the trainer reports, and not in an address outside the table."""
    value, locations, weights = inputs()
    locations[0, 4, 1, 2, 1, 0] = float("nan")
    locations[1, 2, 0, 0, 0] = float("inf")
    out = ms_deform_attn(value, SHAPES, locations, weights).view(2, 9, 3, 5)
    assert out[0, 4, 1].isnan().all()
    out[0, 4, 1] = 0
    assert out.isfinite().all()


@pytest.mark.parametrize(
    "name, change",
    [
        ("value", lambda v, s, l, w: (v[0], s, l, w)),
        ("value", lambda v, s, l, w: (v.long(), s, l, w)),
        ("spatial_shapes", lambda v, s, l, w: (v, s[:-1], l, w)),
        ("spatial_shapes", lambda v, s, l, w: (v, [], l, w)),
        ("spatial_shapes", lambda v, s, l, w: (v, s + [(0, 4)], l, w)),
        ("sampling_locations", lambda v, s, l, w: (v, s, l[..., :1], w)),
        ("sampling_locations", lambda v, s, l, w: (v, s, l[:, :, :2], w)),
        ("sampling_locations", lambda v, s, l, w: (v, s, l[:1], w)),
        ("sampling_locations", lambda v, s, l, w: (v, s, l[:, :, :, :, :0], w[..., :0])),
        ("sampling_locations", lambda v, s, l, w: (v, s, l.to("meta"), w)),
        ("attention_weights", lambda v, s, l, w: (v, s, l, w[..., :1])),
        ("attention_weights", lambda v, s, l, w: (v, s, l, w.int())),
    ],
)
def test_errors_name_the_argument(name, change):
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match=f"^{name}: "):
        ms_deform_attn(*change(value, SHAPES, locations, weights))


def test_memory_of_the_forward_pass_is_bounded(monkeypatch):
    """Never more samples at a time than a chunk holds."""
    monkeypatch.setattr(deform_attn_torch, "CHUNK", 30 * 4)
    seen = []
    bag = torch.nn.functional.embedding_bag
    monkeypatch.setattr(
        torch.nn.functional, "embedding_bag", lambda i, *a, **k: seen.append(i.numel()) or bag(i, *a, **k)
    )
    ms_deform_attn(inputs(Q=50)[0], SHAPES, *inputs(Q=50)[1:])
    assert max(seen) <= 30 * 4 * torch.get_num_threads() and np.sum(seen) == 4 * 2 * 50 * 30
