"""Contrastive losses of a batch of clips: which query is which object, and what the items of all clips cost.

Shapes: B clips, T frames, N objects (rows of a clip's ground truth), Q queries, C values of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances

from projects.ctvis.contrastive import Items, clip_objects, contrastive_losses, memory_items, multi_reference_items
from vis_core.config import check_choice
from vis_core.modeling.mask2former import MaskMatcher, MaskTargets

ITEMS = ("memory", "multi_reference")
MATCHINGS = ("published", "criterion")


class ContrastiveLearner:
    """Makes contrastive items of every clip and averages their losses over the batch."""

    @configurable
    def __init__(
        self,
        *,
        items: str = "memory",
        one_direction: bool = True,
        reid_weight: float = 2.0,
        aux_reid_weight: float = 3.0,
        num_negatives: int = 0,
        momentum: bool = True,
        noise: bool = False,
        noise_probability: float = 0.001,
        matching: str = "published",
        all_first_appearances: bool = False,
    ) -> None:
        """
        Args:
            items, one_direction: "memory" for :func:`memory_items`, "multi_reference" for
                :func:`multi_reference_items` (projects/ctvis/contrastive.py).
            reid_weight, aux_reid_weight: what the two losses are multiplied with.
            num_negatives, noise, noise_probability: of :func:`clip_objects`.
            momentum, all_first_appearances: of :func:`memory_items`.
            matching: "published" matches anew, "criterion" takes the pairs of the segmentation losses; see
                MODEL.CTVIS.CONTRASTIVE.MATCHING.

        Raises:
            ConfigError: for an unknown value of one of the choices.
        """
        check_choice("MODEL.CTVIS.CONTRASTIVE.ITEMS", items, ITEMS)
        check_choice("MODEL.CTVIS.CONTRASTIVE.MATCHING", matching, MATCHINGS)
        self.items = items
        self.one_direction = one_direction
        self.reid_weight = reid_weight
        self.aux_reid_weight = aux_reid_weight
        self.num_negatives = num_negatives
        self.momentum = momentum
        self.noise = noise
        self.noise_probability = noise_probability
        self.matching = matching
        self.all_first_appearances = all_first_appearances

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.CTVIS.CONTRASTIVE
        return {
            "items": node.ITEMS,
            "one_direction": node.ONE_DIRECTION,
            "reid_weight": node.REID_WEIGHT,
            "aux_reid_weight": node.AUX_REID_WEIGHT,
            "num_negatives": node.NUM_NEGATIVES,
            "momentum": node.MOMENTUM_EMBED,
            "noise": node.NOISE_EMBED,
            "noise_probability": node.NOISE_PROBABILITY,
            "matching": node.MATCHING,
            "all_first_appearances": node.ALL_FIRST_APPEARANCES,
        }

    def __call__(
        self,
        outputs: Mapping[str, torch.Tensor],
        clips: Sequence[Sequence[Instances]],
        matches: Sequence[tuple[torch.Tensor, torch.Tensor]],
        matcher: MaskMatcher,
    ) -> dict[str, torch.Tensor]:
        """Weighted ``loss_reid`` and ``loss_aux_reid``: means over all items of all clips of this process.

        Both are 0, with their graph intact, where there is no item.

        Args:
            outputs: of the query decoder for all frames, clip after clip: ``pred_embeds`` (B T, Q, C), and for the
                published matching ``pred_logits`` and ``pred_masks``.
            clips: per clip T Instances with rows aligned over the frames.
            matches: per frame the queries and, among its visible objects, the objects that the criterion matched.
            matcher: for the published matching.
        """
        if self.matching == "published":
            queries, matched = self._match_again(outputs, clips, matcher)
        else:
            queries, matched = self._of_criterion(clips, matches)
        with torch.autocast(outputs["pred_embeds"].device.type, enabled=False):
            all_embeds = outputs["pred_embeds"].float()
            losses = [
                contrastive_losses(self._clip_items(embeds, *clip))
                for embeds, *clip in zip(all_embeds.split([len(clip) for clip in clips]), queries, matched)
            ]
            contrastive, auxiliary = (torch.cat(x) for x in zip(*losses))
            if len(contrastive) == 0:
                nothing = all_embeds.sum() * 0
                return {"loss_reid": nothing, "loss_aux_reid": nothing.clone()}
            return {
                "loss_reid": self.reid_weight * contrastive.mean(),
                "loss_aux_reid": self.aux_reid_weight * auxiliary.mean(),
            }

    def _clip_items(self, embeds: torch.Tensor, queries: torch.Tensor, matched: torch.Tensor) -> Items:
        """Items of one clip: (T, Q, C) embeddings, (T, N) matched queries, (T, N) bool whether there is one."""
        objects = clip_objects(embeds, queries, matched, self.num_negatives, self.noise, self.noise_probability)
        if self.items == "multi_reference":
            return multi_reference_items(embeds, objects, self.one_direction)
        return memory_items(embeds, objects, self.momentum, self.all_first_appearances)

    def _match_again(self, outputs, clips, matcher) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Match all rows, frame by frame through all clips; masks are stretched over the padded frames.

        Returns, per clip, (T, N) queries and (T, N) bool, which of them stand for a visible object.
        """
        queries = [torch.zeros(len(clip), len(clip[0]), dtype=torch.int64) for clip in clips]
        matched = [torch.zeros(x.shape, dtype=torch.bool) for x in queries]
        starts = torch.tensor([0] + [len(clip) for clip in clips]).cumsum(0).tolist()
        for t in range(max(len(clip) for clip in clips)):
            present = [b for b, clip in enumerate(clips) if t < len(clip)]
            frames = [starts[b] + t for b in present]
            predicted = {name: outputs[name].detach()[frames] for name in ("pred_logits", "pred_masks")}
            targets = [MaskTargets(clips[b][t].gt_classes, clips[b][t].gt_masks.tensor) for b in present]
            for b, (query, row) in zip(present, matcher(predicted, targets)):
                queries[b][t, row] = query
                matched[b][t, row] = clips[b][t].gt_ids.cpu()[row] >= 0
        return queries, matched

    def _of_criterion(self, clips, matches) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What :meth:`_match_again` returns, from the criterion's pairs of visible objects."""
        queries, matched = [], []
        rest = iter(matches)
        for clip in clips:
            queries.append(torch.zeros(len(clip), len(clip[0]), dtype=torch.int64))
            matched.append(torch.zeros(queries[-1].shape, dtype=torch.bool))
            for t, (frame, (query, row)) in enumerate(zip(clip, rest)):
                rows = (frame.gt_ids.cpu() >= 0).nonzero().flatten()[row]
                queries[-1][t, rows] = query
                matched[-1][t, rows] = True
        return queries, matched
