"""SeqFormer's matcher and criterion, and VMT's incoherence labels, against the originals' numbers."""

import itertools

import numpy as np
import pytest
import torch

import projects  # noqa: F401
from projects.vmt.criterion import ClipCriterion, matched_masks
from projects.vmt.losses import incoherence_labels
from projects.vmt.matcher import ClipMatcher, ClipTargets
from vis_core.modeling.set_prediction import mean_num_objects

WEIGHTS = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_mask": 2.0, "loss_dice": 5.0}


def load(fixtures_root, name: str):
    path = fixtures_root / "vmt" / name
    if not path.exists():
        pytest.skip(f"{name} is not in {fixtures_root}")
    return np.load(path)


def clip_targets(data) -> list[ClipTargets]:
    targets = []
    for clip in itertools.takewhile(lambda i: f"t{i}.labels" in data, itertools.count()):
        shape = data[f"t{clip}.masks_shape"]
        masks = np.unpackbits(data[f"t{clip}.masks_packed"])[: shape.prod()].reshape(shape).astype(bool)
        labels, boxes = (torch.from_numpy(data[f"t{clip}.{name}"]) for name in ("labels", "boxes_cxcywh"))
        targets.append(ClipTargets(labels, boxes, torch.from_numpy(masks), tuple(shape[2:].tolist())))
    return targets


def test_matches_losses_and_gradients(fixtures_root):
    data = load(fixtures_root, "unit_losses.npz")
    targets = clip_targets(data)
    logits, boxes = (torch.from_numpy(data[f"pred_{name}"]).requires_grad_() for name in ("logits", "boxes"))
    masks = torch.from_numpy(data["pred_masks"][0]).requires_grad_()  # of the matched queries, clip by clip

    matches = ClipMatcher()(logits, boxes, targets)
    for clip, (queries, objects) in enumerate(matches):
        np.testing.assert_array_equal(queries, data[f"match{clip}.query"])
        np.testing.assert_array_equal(objects, data[f"match{clip}.target"])

    criterion = ClipCriterion(weights=WEIGHTS, padding="background")
    total = mean_num_objects(sum(len(target.labels) for target in targets), logits.device)
    losses = criterion.query_losses(logits, boxes, targets, matches, total)
    losses |= criterion.coarse_losses(masks, matched_masks(targets, matches, stride=4), total)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(float(data[name]), rel=1e-5), name
    weighted = sum(criterion.weighted(losses).values())
    assert weighted.item() == pytest.approx(float(data["total"]), rel=1e-6)

    weighted.backward()
    for name, tensor in (("grad_logits", logits), ("grad_boxes", boxes), ("grad_masks", masks)):
        wanted = data[name].reshape(tensor.shape)
        np.testing.assert_allclose(tensor.grad, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_without_padding_both_ways_to_treat_it_are_one(fixtures_root):
    data = load(fixtures_root, "unit_losses.npz")
    targets, masks = clip_targets(data), torch.from_numpy(data["pred_masks"][0])
    matches = [
        tuple(torch.from_numpy(data[f"match{clip}.{x}"]) for x in ("query", "target")) for clip in range(len(targets))
    ]
    wanted, total = matched_masks(targets, matches, stride=4), torch.tensor(float(len(masks)))
    losses = ClipCriterion(weights=WEIGHTS, padding="ignore").coarse_losses(masks, wanted, total)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(float(data[name]), rel=1e-5), name


def test_incoherence_labels(fixtures_root):
    data = load(fixtures_root, "unit_select.npz")
    prefix = "paper_incoherence."
    masks = torch.from_numpy(data[f"{prefix}masks"])
    sizes = [key for key in data if key.startswith(prefix) and key != f"{prefix}masks"]
    assert sizes
    for key in sizes:
        size = tuple(int(side) for side in key.removeprefix(prefix).split("x"))
        np.testing.assert_array_equal(incoherence_labels(masks, size), data[key].astype(bool), err_msg=key)
