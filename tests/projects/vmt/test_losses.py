import pytest
import torch

import projects  # noqa: F401
from projects.vmt.criterion import ClipCriterion, MatchedMasks, matched_masks
from projects.vmt.losses import (
    dice_loss,
    dice_loss_of_probabilities,
    focal_loss,
    focal_loss_of_probabilities,
    incoherence_labels,
    pairwise_focal_cost,
)
from projects.vmt.matcher import ClipMatcher, ClipTargets, corners
from vis_core.errors import ConfigError

WEIGHTS = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_mask": 2.0, "loss_dice": 0.0}


def random_masks(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * 3, torch.rand(*shape, generator=generator) > 0.6


def target(labels, boxes, masks=None, size=(8, 8)) -> ClipTargets:
    masks = torch.zeros(len(labels), boxes.shape[1], *size, dtype=torch.bool) if masks is None else masks
    return ClipTargets(torch.tensor(labels, dtype=torch.int64), boxes, masks, size)


def test_losses_of_logits_and_of_their_probabilities_agree():
    logits, masks = random_masks(4, 50)
    probabilities, labels = logits.sigmoid(), masks.float()
    torch.testing.assert_close(
        focal_loss(logits, labels, 2.0), focal_loss_of_probabilities(probabilities, labels, 2.0), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(dice_loss(logits, labels, 2.0), dice_loss_of_probabilities(probabilities, labels, 2.0))


def test_focal_loss_by_hand():
    # p = 0.8: a positive costs 0.25 * 0.2^2 * -ln 0.8, a negative 0.75 * 0.8^2 * -ln 0.2.
    logits = torch.tensor([[4.0, 4.0]]).log()
    wanted = (0.25 * 0.04 * -torch.tensor(0.8).log() + 0.75 * 0.64 * -torch.tensor(0.2).log()) / 2
    torch.testing.assert_close(focal_loss(logits, torch.tensor([[1.0, 0.0]]), 1.0), wanted)


def test_certain_probabilities_cost_a_finite_amount_and_have_finite_gradients():
    probabilities = torch.tensor([[0.0, 1.0, 0.0, 1.0]], requires_grad=True)
    loss = focal_loss_of_probabilities(probabilities, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), 1.0)
    loss.backward()
    assert loss.isfinite() and probabilities.grad.isfinite().all()


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
def test_pixels_that_do_not_count(loss):
    logits, masks = random_masks(3, 40)
    labels = masks.float()
    valid = torch.zeros(3, 40, dtype=torch.bool)
    valid[:, :25] = True
    changed = torch.where(valid, logits, -logits)
    torch.testing.assert_close(loss(logits, labels, 1.0, valid), loss(changed, labels, 1.0, valid))
    torch.testing.assert_close(loss(logits, labels, 1.0, valid), loss(logits[:, :25], labels[:, :25], 1.0))
    assert loss(logits, labels, 1.0, torch.zeros_like(valid)).isfinite()


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
def test_no_mask_costs_nothing_and_keeps_its_graph(loss):
    logits = torch.zeros(0, 10, requires_grad=True)
    total = loss(logits, torch.zeros(0, 10), 1.0)
    total.backward()
    assert total == 0 and logits.grad.shape == (0, 10)


def test_focal_cost_prefers_the_likely_class():
    cost = pairwise_focal_cost(torch.tensor([[4.0, -4.0], [-4.0, 4.0]]), torch.tensor([0, 1, 1]))
    assert cost.shape == (2, 3)
    assert cost[0, 0] < 0 < cost[0, 1] and torch.equal(cost[:, 1], cost[:, 2])


def test_incoherence_lies_along_contours_only():
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 6:19] = 1
    labels = incoherence_labels(mask, (8, 8))
    assert not labels[0, 3:5, 3].any() and not labels[0, 0].any()  # inside, and far outside
    assert labels[0, 2:6, 1].any() and labels[0, 2:6, 4].any()
    assert not incoherence_labels(torch.ones(1, 32, 32), (8, 8)).any()


def test_one_query_a_clip_whatever_its_frames_say():
    """Query 1 is better in the first frame alone, query 0 in the whole clip."""
    boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.6, 0.6, 0.2, 0.2]]])  # (N, T, 4)
    predicted = torch.stack([boxes[0] + 0.02, torch.stack([boxes[0, 0], boxes[0, 0]])], dim=1)[None]  # (B, T, Q, 4)
    (match,) = ClipMatcher()(torch.zeros(1, 2, 3), predicted, [target([1], boxes)])
    assert [x.tolist() for x in match] == [[0], [0]]


def test_clips_without_objects_and_broken_predictions_can_be_matched():
    boxes = torch.rand(2, 2, 5, 4)
    targets = [target([], torch.zeros(0, 2, 4)), target([0, 1], torch.rand(2, 2, 4))]
    matches = ClipMatcher()(torch.full((2, 5, 3), torch.nan), boxes, targets)
    assert [len(queries) for queries, _ in matches] == [0, 2]


def test_corners():
    torch.testing.assert_close(corners(torch.tensor([0.5, 0.4, 0.2, 0.6])), torch.tensor([0.4, 0.1, 0.6, 0.7]))


def test_targets_of_a_stage_are_the_pixels_in_the_middle():
    masks = torch.arange(64).view(1, 1, 8, 8) % 2 == 1
    matches = [(torch.tensor([3]), torch.tensor([0]))]
    one = ClipTargets(torch.tensor([0]), torch.rand(1, 1, 4), masks, (5, 8))
    wanted = matched_masks([one], matches, stride=4)
    assert torch.equal(wanted.masks[0, 0], masks[0, 0, 2::4, 2::4])
    assert wanted.valid.tolist() == [[[True, True], [False, False]]]  # row 6 is padding
    assert matched_masks([one], matches, stride=1).masks.shape == (1, 1, 8, 8)


def test_padding_is_ignored_or_background():
    logits, masks = random_masks(2, 3, 4, 6)
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    wanted, total = (
        MatchedMasks(
            masks & valid[:, None],
            valid,
        ),
        torch.tensor(2.0),
    )
    other = torch.where(valid[:, None], logits, logits + 5)

    def losses(padding, masks):
        return ClipCriterion(weights=WEIGHTS, padding=padding).coarse_losses(masks, wanted, total)

    for name in ("loss_mask", "loss_dice"):
        torch.testing.assert_close(losses("ignore", logits)[name], losses("ignore", other)[name])
        assert losses("background", logits)[name] < losses("background", other)[name]
    with pytest.raises(ConfigError, match=r"LOSS\.PADDING: 'keep'"):
        ClipCriterion(weights=WEIGHTS, padding="keep")


def test_labels_of_another_size_are_refused():
    wanted = MatchedMasks(torch.zeros(1, 1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="differ in size"):
        ClipCriterion(weights=WEIGHTS).coarse_losses(torch.zeros(1, 1, 4, 5), wanted, torch.tensor(1.0))


def test_weights():
    weighted = ClipCriterion(weights=WEIGHTS).weighted(
        {"loss_mask": torch.tensor(3.0), "loss_dice": torch.tensor(1.0)}, "_1"
    )
    assert weighted == {"loss_mask_1": 6.0}


def test_perfect_predictions_cost_little():
    _, masks = random_masks(2, 3, 16, 16, seed=3)
    logits = torch.where(masks, 20.0, -20.0)
    criterion = ClipCriterion(weights=WEIGHTS)
    detail = torch.ones(3, 16, 16, dtype=torch.bool)
    good = criterion.refined_losses(logits, masks, detail, torch.tensor(2.0), 1)
    bad = criterion.refined_losses(-logits, masks, detail, torch.tensor(2.0), 1)
    for name in good:
        assert good[name] < 1e-2 < 0.1 < bad[name], name


def test_only_the_detail_counts_where_it_says_so():
    logits, masks = random_masks(2, 1, 16, 16)
    detail = torch.zeros(1, 16, 16, dtype=torch.bool)
    detail[:, :5] = True
    other = torch.where(detail, logits, -logits)
    criterion = ClipCriterion(weights=WEIGHTS)
    one, two = (criterion.refined_losses(x, masks, detail, torch.tensor(2.0), 1) for x in (logits, other))
    assert torch.equal(one["loss_mask_bound_refine"], two["loss_mask_bound_refine"])
    assert not torch.equal(one["loss_mask_dice_refine"], two["loss_mask_dice_refine"])


def test_nan_boxes_say_that_the_training_diverged():
    boxes = torch.full((1, 1, 1, 4), torch.nan)
    one = torch.zeros(1, dtype=torch.int64)
    truth = target([0], torch.tensor([[[0.5, 0.5, 0.2, 0.2]]]))
    with pytest.raises(FloatingPointError, match="NaN boxes"):
        ClipCriterion(weights=WEIGHTS).query_losses(torch.zeros(1, 1, 2), boxes, [truth], [(one, one)], torch.tensor(1))
