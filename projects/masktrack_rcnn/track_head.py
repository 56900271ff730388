"""The track head: one embedding for every box, by which the same object is found in other frames.

Shapes: B images, R boxes in all, D values of an embedding.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from torch import nn

from projects.masktrack_rcnn.losses import DENOMINATORS, match_accuracy, match_loss, match_targets
from vis_core.config import check_choice
from vis_core.modeling.mmdet import LowQualityMatcher, build_pooler
from vis_core.tracking import dot_product_logits, pairwise_iou

FINAL_ACTIVATIONS = ("relu", "none")


def sample_positives(
    proposals: torch.Tensor, gt_boxes: torch.Tensor, matcher: LowQualityMatcher, max_positives: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw boxes that show an object, among the objects' own boxes and the proposals.

    Negatives have no part in the match loss, so none are drawn; their number does not influence the positives'.

    Args:
        proposals: (R, 4), gt_boxes: (N, 4), pixels.

    Returns:
        Boxes (P, 4), P <= max_positives, and the index (P,) of each one's object.
    """
    candidates = torch.cat([gt_boxes, proposals])
    matches, labels = matcher(pairwise_iou(gt_boxes, candidates))
    positives = torch.nonzero(labels == 1).squeeze(1)
    drawn = positives[torch.randperm(len(positives), device=positives.device)[:max_positives]]
    return candidates[drawn], matches[drawn]


class TrackHead(nn.Module):
    """RoI features of its own, then fully connected layers: ``fc1``, ``fc2``, ..."""

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: nn.Module,
        input_size: int,
        num_fc: int,
        fc_dim: int,
        final_activation: str = "relu",
        max_positives: int = 32,
        iou_threshold: float = 0.5,
        loss_weight: float = 1.0,
        loss_denominator: str = "matched",
    ) -> None:
        """
        Args:
            in_features: names of the feature maps that are pooled.
            pooler: called with a list of maps and a list of boxes.
            input_size: values of one box's pooled features.
            num_fc, fc_dim: number and width of the layers; D = fc_dim.
            final_activation: "relu" or "none" after the last layer.
            max_positives, iou_threshold: of the training sample, per image.
            loss_weight, loss_denominator: see :func:`projects.masktrack_rcnn.losses.match_loss`.

        Raises:
            ConfigError: for an unknown value of one of the choices.
        """
        super().__init__()
        check_choice("MODEL.TRACK_HEAD.FINAL_ACTIVATION", final_activation, FINAL_ACTIVATIONS)
        check_choice("MODEL.TRACK_HEAD.LOSS_DENOMINATOR", loss_denominator, DENOMINATORS)
        self.in_features = in_features
        self.pooler = pooler
        self.num_fc = num_fc
        self.final_activation = final_activation
        self.max_positives = max_positives
        self.matcher = LowQualityMatcher([iou_threshold], [0, 1], iou_threshold)
        self.loss_weight = loss_weight
        self.loss_denominator = loss_denominator
        for k in range(1, num_fc + 1):
            self.add_module(f"fc{k}", nn.Linear(input_size if k == 1 else fc_dim, fc_dim))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        node = cfg.MODEL.TRACK_HEAD
        return {
            "in_features": list(node.IN_FEATURES),
            "pooler": build_pooler(cfg, node, input_shape, node.IN_FEATURES),
            "input_size": input_shape[node.IN_FEATURES[0]].channels * node.POOLER_RESOLUTION**2,
            "num_fc": node.NUM_FC,
            "fc_dim": node.FC_DIM,
            "final_activation": node.FINAL_ACTIVATION,
            "max_positives": int(node.BATCH_SIZE_PER_IMAGE * node.POSITIVE_FRACTION),
            "iou_threshold": node.IOU_THRESHOLD,
            "loss_weight": node.LOSS_WEIGHT,
            "loss_denominator": node.LOSS_DENOMINATOR,
        }

    def forward(self, features: dict[str, torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """Embeddings (R, D) of B images' boxes, in pixels of the network's input."""
        return self.embed(self.pooler([features[name] for name in self.in_features], boxes))

    def embed(self, roi_features: torch.Tensor) -> torch.Tensor:
        """Embeddings (R, D) of pooled features (R, C, S, S)."""
        x = roi_features.flatten(start_dim=1)
        for k in range(1, self.num_fc + 1):
            x = getattr(self, f"fc{k}")(x)
            if k < self.num_fc or self.final_activation == "relu":
                x = x.relu()
        return x

    def sample(self, proposals: list[Instances], objects: list[Instances]) -> tuple[list[Boxes], list[torch.Tensor]]:
        """Positives of each key frame: boxes (P, 4) and the identity (P,) of each one's object."""
        boxes, ids = [], []
        for image_proposals, image_objects in zip(proposals, objects):
            gt_boxes = image_objects.gt_boxes.tensor
            drawn, owner = sample_positives(
                image_proposals.proposal_boxes.tensor.detach(), gt_boxes, self.matcher, self.max_positives
            )
            boxes.append(Boxes(drawn))
            ids.append(image_objects.gt_ids[owner])
        return boxes, ids

    def losses(
        self,
        key_embeds: list[torch.Tensor],
        key_ids: list[torch.Tensor],
        ref_embeds: list[torch.Tensor],
        ref_ids: list[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean match loss and mean match accuracy (percent) over pairs of frames.

        Args:
            key_embeds, key_ids: per pair (P, D) and (P,), the key frame's positives.
            ref_embeds, ref_ids: per pair (M, D) and (M,), the reference frame's objects.
        """
        losses, accuracies = [], []
        for embeds, ids, references, reference_ids in zip(key_embeds, key_ids, ref_embeds, ref_ids):
            logits = dot_product_logits(embeds, references)  # (P, 1 + M)
            targets = match_targets(ids, reference_ids)
            losses.append(match_loss(logits, targets, self.loss_denominator))
            accuracies.append(match_accuracy(logits, targets))
        return self.loss_weight * torch.stack(losses).mean(), torch.stack(accuracies).mean()
