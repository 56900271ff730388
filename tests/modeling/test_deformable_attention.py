"""The deformable attention layer: references, padding, initial state."""

import pytest
import torch

from vis_core.modeling import MSDeformAttn, grid_points, sampling_locations
from vis_core.modeling.deformable_attention import softmax_of_few

SHAPES = [(2, 3), (4, 6)]


def layer() -> MSDeformAttn:
    torch.manual_seed(0)
    module = MSDeformAttn(dim=16, num_levels=2, num_heads=4, num_points=3).double()
    torch.nn.init.normal_(module.sampling_offsets.weight, std=0.1)
    torch.nn.init.normal_(module.attention_weights.weight)
    return module


def test_padded_tokens_count_as_zero():
    module, query, source = layer(), torch.randn(2, 5, 16).double(), torch.randn(2, 30, 16).double()
    points = torch.rand(2, 5, 1, 2).double()
    padding = torch.rand(2, 30) < 0.4
    value = module.value_proj(source) * ~padding[..., None]
    module.value_proj, project = torch.nn.Identity(), module.value_proj
    expected = module(query, points, value, SHAPES)
    module.value_proj = project
    torch.testing.assert_close(module(query, points, source, SHAPES, padding), expected)


def test_one_reference_for_all_levels_or_one_each():
    module, query, source = layer(), torch.randn(2, 5, 16).double(), torch.randn(2, 30, 16).double()
    points = torch.rand(1, 5, 1, 2).double()
    shared = module(query, points, source, SHAPES)
    torch.testing.assert_close(module(query, points.expand(2, 5, 2, 2), source, SHAPES), shared)
    apart = module(query, torch.cat([points, points + 0.2], dim=2), source, SHAPES)
    assert not torch.allclose(apart, shared)


def test_locations():
    offsets = torch.tensor([3.0, -2.0]).expand(1, 1, 1, 2, 4, 2)
    around_point = sampling_locations(torch.tensor([0.5, 0.25]).view(1, 1, 1, 2), offsets, SHAPES)
    torch.testing.assert_close(around_point[0, 0, 0, 0, 0], torch.tensor([0.5 + 3 / 3, 0.25 - 2 / 2]))
    torch.testing.assert_close(around_point[0, 0, 0, 1, 3], torch.tensor([0.5 + 3 / 6, 0.25 - 2 / 4]))
    box = torch.tensor([0.5, 0.25, 0.2, 0.8]).view(1, 1, 1, 4)
    in_box = sampling_locations(box, offsets, SHAPES)
    expected = torch.tensor([0.5 + 3 / 4 * 0.2 / 2, 0.25 - 2 / 4 * 0.8 / 2])
    torch.testing.assert_close(in_box[0, 0, 0], expected.expand(2, 4, 2))


def test_grid_points_are_pixel_centres():
    points = grid_points([(1, 2), (2, 1)])
    assert points.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_starts_from_directions_with_equal_weights():
    module = MSDeformAttn(dim=16, num_levels=2, num_heads=4, num_points=3)
    offsets = module.sampling_offsets(torch.randn(7, 16)).view(7, 4, 2, 3, 2)
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    expected = directions[:, None, None] * torch.tensor([1.0, 2, 3])[:, None]
    torch.testing.assert_close(offsets, expected.expand(7, 4, 2, 3, 2), atol=1e-6, rtol=0)
    assert not module.attention_weights(torch.randn(7, 16)).any()


def test_dim_must_fit_the_heads():
    with pytest.raises(ValueError, match="dim: 30 is not a multiple of 8 heads"):
        MSDeformAttn(dim=30)


def test_softmax_of_few_is_softmax_with_its_gradient():
    x = torch.randn(2, 50, 8, 12)
    result = softmax_of_few(x)
    torch.testing.assert_close(result, x.softmax(dim=-1))
    assert result.is_contiguous()
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax_of_few, x)
