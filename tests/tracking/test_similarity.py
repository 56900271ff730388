import pytest
import torch
from detectron2.structures import Boxes
from detectron2.structures import pairwise_iou as detectron2_iou

from vis_core.tracking import dot_product_logits, pairwise_iou


def test_logits_have_a_zero_for_new_objects_in_front():
    embeds, references = torch.randn(4, 8), torch.randn(3, 8)
    logits = dot_product_logits(embeds, references)
    assert logits.shape == (4, 4)
    assert (logits[:, 0] == 0).all()
    assert logits[2, 2].item() == pytest.approx((embeds[2] * references[1]).sum().item(), rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_logits_without_objects_keep_their_graph(n, m):
    embeds, references = torch.randn(n, 8, requires_grad=True), torch.randn(m, 8, requires_grad=True)
    logits = dot_product_logits(embeds, references)
    assert logits.shape == (n, m + 1)
    logits.sum().backward()
    assert embeds.grad.shape == (n, 8) and references.grad.shape == (m, 8)


def test_iou_equals_detectron2s_on_proper_boxes():
    corners = torch.rand(2, 20, 2) * 50
    a = torch.cat([corners.amin(0), corners.amax(0) + 1], dim=1)
    b = a.flip(0) + 3
    torch.testing.assert_close(pairwise_iou(a, b), detectron2_iou(Boxes(a), Boxes(b)))


def test_iou_of_boxes_without_area_is_zero():
    empty, full = torch.tensor([[5.0, 5, 5, 9]]), torch.tensor([[0.0, 0, 10, 10]])
    assert pairwise_iou(empty, empty).item() == 0
    assert pairwise_iou(empty, full).item() == 0
    assert pairwise_iou(torch.zeros(0, 4), full).shape == (0, 1)
