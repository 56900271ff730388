import pytest
import torch

from projects.masktrack_rcnn.losses import match_accuracy, match_loss, match_targets


def test_targets():
    key_ids, ref_ids = torch.tensor([7, 3, 9, 3]), torch.tensor([3, 9, 3])
    assert match_targets(key_ids, ref_ids).tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(("p", "m"), [(0, 2), (3, 0), (0, 0)])
def test_targets_without_objects(p, m):
    assert match_targets(torch.zeros(p, dtype=torch.int64), torch.ones(m, dtype=torch.int64)).tolist() == [0] * p


def test_loss_denominators():
    logits, targets = torch.randn(4, 3), torch.tensor([0, 2, 0, 0])
    total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(match_loss(logits, targets, "matched"), total)
    torch.testing.assert_close(match_loss(logits, targets, "positives"), total / 4)


@pytest.mark.parametrize("denominator", ["matched", "positives"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 1), (0, 1)])
def test_nothing_to_learn_is_zero_with_its_graph(denominator, shape):
    logits = torch.randn(shape, requires_grad=True)
    loss = match_loss(logits, torch.zeros(shape[0], dtype=torch.int64), denominator)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad.abs().sum() == 0


def test_accuracy():
    logits = torch.tensor([[0.0, 5, 1], [0, -1, -1], [0, 2, 3]])
    assert match_accuracy(logits, torch.tensor([1, 0, 1])).item() == pytest.approx(200 / 3)
    assert match_accuracy(logits[:0], torch.zeros(0, dtype=torch.int64)).item() == 0
