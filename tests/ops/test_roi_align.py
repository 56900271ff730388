import pytest
import torch
import torchvision

from vis_core.ops import roi_align


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("size", [(7, 7), (5, 9)])
def test_like_torchvision(size, sampling_ratio, aligned):
    """Boxes inside, across the border, outside, and of no or negative extent."""
    torch.manual_seed(0)
    corner = torch.rand(40, 2, dtype=torch.float64) * torch.tensor([220.0, 150.0]) - 20
    extent = torch.rand(40, 2, dtype=torch.float64) * 90 - 4
    image = torch.randint(0, 2, (40, 1)).double()
    rois = torch.cat([image, corner, corner + extent], dim=1)
    rois[0, 3:] = rois[0, 1:3]
    features = torch.randn(2, 3, 16, 24, dtype=torch.float64, requires_grad=True)
    settings = (size, 1 / 8, sampling_ratio, aligned)
    ours, theirs = roi_align(features, rois, *settings), torchvision.ops.roi_align(features, rois, *settings)
    assert ours.equal(theirs)
    weight = torch.randn_like(ours)
    (expected,) = torch.autograd.grad(theirs, features, weight)
    torch.testing.assert_close(torch.autograd.grad(ours, features, weight)[0], expected, rtol=0, atol=1e-12)
    assert expected.abs().max() > 1


def test_gradient_by_differences():
    features = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 3.0, 2.0, 30.0, 33.0], [0, -4.0, 8.0, 21.0, 60.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (3, 2), 1 / 8, 0, True), features)


def test_no_boxes():
    features = torch.randn(1, 2, 5, 6, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 5), (3, 2), 1 / 8, 0, True)
    pooled.sum().backward()
    assert pooled.shape == (0, 2, 3, 2) and features.grad.eq(0).all()
