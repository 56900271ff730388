"""Losses of a batch of clips: SeqFormer's for every decoder layer, and those of the two finer mask stages.

SeqFormer: arXiv 2112.08275. No training code of Video Mask Transfiner (2207.14012) was released: the losses of the
later stages are ours, made of the loss functions and the table of weights that its inference code holds.

Shapes: B clips, T frames, Q queries, K classes, N objects of a clip, M matched pairs of all clips, (H, W) padded
frames, (h, w) mask logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from fvcore.nn import giou_loss, sigmoid_focal_loss
from torch.nn import functional as F

from projects.vmt.losses import (
    ALPHA,
    GAMMA,
    dice_loss,
    dice_loss_of_probabilities,
    focal_loss,
    focal_loss_of_probabilities,
)
from projects.vmt.matcher import ClipTargets, corners
from vis_core.errors import ConfigError
from vis_core.modeling.set_prediction import Match

PADDINGS = ("ignore", "background")
REFINED_LOSSES = (
    "loss_mask_refine",
    "loss_mask_dice_refine",
    "loss_mask_bound_refine",
    "loss_mask_sem",
    "loss_mask_sem_dice",
)


class MatchedMasks(NamedTuple):
    """What the masks of M matched queries should be.

    Attributes:
        masks: (M, T, h, w) bool.
        valid: (M, h, w) bool, False in the padding.
    """

    masks: torch.Tensor
    valid: torch.Tensor


class ClipCriterion:
    """Unweighted losses of predictions that are matched already, and what each is to be multiplied with."""

    @configurable
    def __init__(self, *, weights: dict[str, float], padding: str = "ignore") -> None:
        """
        Args:
            weights: loss name (without layer) -> factor; :meth:`weighted` leaves out what has none or 0.
            padding: what pixels beyond a frame's edge are to the mask losses: not there ("ignore"), or "background", as
                in SeqFormer, where a loss thus depends on what a clip happens to share its batch with.

        Raises:
            ConfigError: for an unknown ``padding``.
        """
        if padding not in PADDINGS:
            raise ConfigError(f"MODEL.VMT.LOSS.PADDING: '{padding}' is not one of {', '.join(PADDINGS)}")
        self.weights = weights
        self.padding = padding

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT.LOSS
        return {
            "weights": {
                "loss_ce": node.CLASS_WEIGHT,
                "loss_bbox": node.BOX_WEIGHT,
                "loss_giou": node.GIOU_WEIGHT,
                "loss_mask": node.MASK_WEIGHT,
                "loss_dice": node.DICE_WEIGHT,
                "loss_mask_inc": node.SECOND_MASK_WEIGHT,
                "loss_dice_inc": node.SECOND_DICE_WEIGHT,
                "loss_mask_refine": node.REFINED_MASK_WEIGHT,
                "loss_mask_dice_refine": node.REFINED_DICE_WEIGHT,
                "loss_mask_bound_refine": node.REFINED_DETAIL_WEIGHT,
                "loss_mask_sem": node.UNION_MASK_WEIGHT,
                "loss_mask_sem_dice": node.UNION_DICE_WEIGHT,
                "loss_incoherence": node.INCOHERENCE_WEIGHT,
                "loss_nodes": node.NODE_WEIGHT,
            },
            "padding": node.PADDING,
        }

    def weighted(self, losses: dict[str, torch.Tensor], suffix: str = "") -> dict[str, torch.Tensor]:
        """The losses times their weights, with ``suffix`` behind their names."""
        return {f"{name}{suffix}": self.weights[name] * loss for name, loss in losses.items() if self.weights[name]}

    def query_losses(
        self,
        logits: torch.Tensor,
        boxes: torch.Tensor,
        targets: Sequence[ClipTargets],
        matches: Sequence[Match],
        total: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """``loss_ce``, ``loss_bbox`` and ``loss_giou`` of one decoder layer.

        Args:
            logits: (B, Q, K) float32.
            boxes: (B, T, Q, 4) float32.
            targets, matches: of B clips.
            total: number of objects, see :func:`vis_core.modeling.set_prediction.mean_num_objects`.

        Raises FloatingPointError for NaN boxes, which say that the training has diverged.
        """
        classes = torch.zeros_like(logits)
        for row, target, (queries, objects) in zip(classes, targets, matches):
            row[queries.to(row.device), target.labels[objects.to(row.device)]] = 1
        predicted = torch.cat(
            [clip[:, queries.to(clip.device)].transpose(0, 1) for clip, (queries, _) in zip(boxes, matches)]
        )
        if predicted.isnan().any():  # the loss below would call them bad boxes
            raise FloatingPointError("the decoder predicted NaN boxes: training has diverged")
        wanted = torch.cat(
            [target.boxes[objects.to(target.boxes.device)] for target, (_, objects) in zip(targets, matches)]
        )
        num_frames = boxes.shape[1]
        loss_ce = sigmoid_focal_loss(logits, classes, alpha=ALPHA, gamma=GAMMA, reduction="sum")
        return {
            "loss_ce": loss_ce / total,
            "loss_bbox": F.l1_loss(predicted, wanted, reduction="sum") / num_frames / total,
            "loss_giou": giou_loss(corners(predicted), corners(wanted), reduction="sum") / num_frames / total,
        }

    def coarse_losses(self, masks: torch.Tensor, wanted: MatchedMasks, total: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss_mask`` and ``loss_dice`` of the first stage: logits (M, T, h, w), at stride 4."""
        logits, labels, valid = self._tubes(masks, wanted)
        return {
            "loss_mask": focal_loss(logits, labels, total, valid),
            "loss_dice": dice_loss(logits, labels, total, valid),
        }

    def second_losses(self, masks: torch.Tensor, wanted: MatchedMasks, total: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss_mask_inc`` and ``loss_dice_inc`` of the second stage: logits (M, T, h, w), at stride 2."""
        logits, labels, valid = self._tubes(masks, wanted)
        return {
            "loss_mask_inc": focal_loss(logits, labels, total, valid),
            "loss_dice_inc": dice_loss(logits, labels, total, valid),
        }

    def refined_losses(
        self,
        masks: torch.Tensor,
        labels: torch.Tensor,
        detail: torch.Tensor,
        total: torch.Tensor,
        num_clips: int,
    ) -> dict[str, torch.Tensor]:
        """``REFINED_LOSSES`` of one clip's last stage: of its instances, of their detail alone, and of their union.

        Args:
            masks: (N, T, H, W) logits of full size, without padding.
            labels: (N, T, H, W) bool.
            detail: (T, H, W) bool, pixels that the refinement was made for.
            total: what sums over instances are divided by.
            num_clips: what the union's losses are divided by.
        """
        logits, targets = masks.flatten(1), labels.flatten(1).to(masks.dtype)
        chosen = detail.flatten().expand(len(logits), -1)
        union = logits.sigmoid().sum(dim=0, keepdim=True).clamp(max=1)  # (1, P)
        anywhere = labels.flatten(1).any(dim=0, keepdim=True).to(masks.dtype)
        return {
            "loss_mask_refine": focal_loss(logits, targets, total),
            "loss_mask_dice_refine": dice_loss(logits, targets, total),
            "loss_mask_bound_refine": dice_loss(logits, targets, total, chosen),
            "loss_mask_sem": focal_loss_of_probabilities(union, anywhere, num_clips),
            "loss_mask_sem_dice": dice_loss_of_probabilities(union, anywhere, num_clips),
        }

    def _tubes(self, masks, wanted) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Logits, labels and, where padding is ignored, what counts: (M, T h w) each."""
        labels = wanted.masks.to(masks.dtype)
        if masks.shape != labels.shape:
            raise ValueError(f"mask logits {list(masks.shape)} and labels {list(labels.shape)} differ in size")
        valid = wanted.valid[:, None].expand(labels.shape).flatten(1) if self.padding == "ignore" else None
        return masks.flatten(1), labels.flatten(1), valid


def matched_masks(targets: Sequence[ClipTargets], matches: Sequence[Match], stride: int) -> MatchedMasks:
    """The masks of all matched objects at ``stride``: of every cell the pixel in its middle."""
    masks, valid = [], []
    middle = slice(stride // 2, None, stride)
    for target, (_, objects) in zip(targets, matches):
        masks.append(target.masks[objects.to(target.masks.device)][..., middle, middle])
        inside = torch.zeros(target.masks.shape[-2:], dtype=torch.bool, device=target.masks.device)
        inside[: target.image_size[0], : target.image_size[1]] = True
        valid.append(inside[middle, middle].expand(len(objects), -1, -1))
    return MatchedMasks(torch.cat(masks), torch.cat(valid))
