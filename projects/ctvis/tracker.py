"""The online tracker of CTVIS: queries of a frame to tracks, by embeddings (arXiv 2307.12616, section 3.3).

Shapes: Q queries, N of them selected, M tracks in memory, K classes, C values of an embedding, (h, w) mask logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from vis_core.config import check_choice
from vis_core.tracking import (
    UNMATCHED,
    EmbeddingBank,
    bisoftmax,
    cosine_similarity,
    greedy_association,
    mask_nms,
    optimal_association,
)
from vis_core.tracking.embedding_bank import UPDATES

METRICS = {"bisoftmax": bisoftmax, "cosine": cosine_similarity}
ASSIGNMENTS = ("greedy", "hungarian")


@dataclass
class Tracked:
    """The queries of one frame that belong to a track: indices ``queries`` and, for each, the identity in ``ids``."""

    queries: list[int]
    ids: list[int]


def select_queries(
    logits: torch.Tensor, masks: torch.Tensor, min_score: float, max_iou: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The queries that are detections, best first, each object once.

    Args:
        logits: (Q, K + 1) float, the last class is "no object".
        masks: (Q, h, w) logits.
        min_score: what the greatest class probability must exceed. Where none does, the best query is taken.
        max_iou: see :func:`vis_core.tracking.mask_nms`.

    Returns:
        Indices (N,) int64 and scores (N,) float, descending.
    """
    scores, order = logits.softmax(dim=-1)[:, :-1].max(dim=1).values.sort(descending=True, stable=True)
    num_selected = max(int((scores > min_score).sum()), 1)
    scores, order = scores[:num_selected], order[:num_selected]
    kept = mask_nms(masks[order] > 0, max_iou)
    return order[kept], scores[kept]


class CTVISTracker:
    """Gives identities to one video's queries, frame by frame."""

    @configurable
    def __init__(
        self,
        *,
        select_threshold: float = 0.01,
        init_threshold: float = 0.01,
        mask_nms_threshold: float = 0.6,
        match_threshold: float = 0.3,
        metric: str = "bisoftmax",
        assignment: str = "greedy",
        frame_weight: bool = True,
        memory: str = "similarity_guided",
        cache: int = 10,
        momentum: float = 0.75,
        num_dead_frames: int = 20,
    ) -> None:
        """
        Args:
            select_threshold: see :func:`select_queries`.
            init_threshold: what a detection's score must exceed to begin a track.
            mask_nms_threshold: see :func:`select_queries`.
            match_threshold: what the affinity with a track must exceed.
            metric: "bisoftmax" or "cosine" (vis_core/tracking/association.py).
            assignment: "greedy" by descending score, or "hungarian".
            frame_weight: greedy assignment prefers tracks of long standing.
            memory, cache, momentum: of :class:`vis_core.tracking.EmbeddingBank`.
            num_dead_frames: a track that was not seen for more frames than that is forgotten.

        Raises:
            ConfigError: for an unknown value of one of the choices.
        """
        check_choice("MODEL.CTVIS.TRACKER.METRIC", metric, METRICS)
        check_choice("MODEL.CTVIS.TRACKER.ASSIGNMENT", assignment, ASSIGNMENTS)
        check_choice("MODEL.CTVIS.TRACKER.MEMORY", memory, UPDATES)
        self.select_threshold = select_threshold
        self.init_threshold = init_threshold
        self.mask_nms_threshold = mask_nms_threshold
        self.match_threshold = match_threshold
        self.affinity = METRICS[metric]
        self.assignment = assignment
        self.frame_weight = frame_weight
        self.memory = memory
        self.cache = cache
        self.momentum = momentum
        self.num_dead_frames = num_dead_frames
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.CTVIS.TRACKER
        return {
            "select_threshold": node.SELECT_THRESHOLD,
            "init_threshold": node.INIT_THRESHOLD,
            "mask_nms_threshold": node.MASK_NMS_THRESHOLD,
            "match_threshold": node.MATCH_THRESHOLD,
            "metric": node.METRIC,
            "assignment": node.ASSIGNMENT,
            "frame_weight": node.FRAME_WEIGHT,
            "memory": node.MEMORY,
            "cache": node.CACHE,
            "momentum": node.MOMENTUM,
            "num_dead_frames": node.NUM_DEAD_FRAMES,
        }

    def reset(self) -> None:
        """Forget everything: a new video begins."""
        self.bank = EmbeddingBank(self.memory, self.cache, self.momentum)
        self.num_ids = 0
        self.frame = -1

    @torch.no_grad()
    def step(self, logits: torch.Tensor, masks: torch.Tensor, embeds: torch.Tensor) -> Tracked:
        """The next frame's detections, best first; those that neither match a track nor may begin one are left out.

        Args:
            logits: (Q, K + 1), the last class is "no object". masks: (Q, h, w) logits. embeds: (Q, C). All float.
        """
        self.frame += 1
        queries, scores = select_queries(logits.float(), masks, self.select_threshold, self.mask_nms_threshold)
        embeds = embeds[queries].float()
        may_begin = (scores > self.init_threshold).tolist()
        ids: list[int | None] = []
        for column, begins in zip(self._associate(embeds), may_begin):
            if column != UNMATCHED:
                ids.append(self.bank.ids[column])
            elif begins:
                ids.append(self.num_ids)
                self.num_ids += 1
            else:
                ids.append(None)
        stays = [i for i, id_ in enumerate(ids) if id_ is not None]
        tracked = Tracked(queries[stays].tolist(), [ids[i] for i in stays])
        if stays:
            self.bank.update(tracked.ids, self.frame, embeds[stays], scores[stays])
        self.bank.evict(self.frame, self.num_dead_frames)
        return tracked

    def _associate(self, embeds: torch.Tensor) -> list[int]:
        """Row of the bank for each of the detections (N, C), or UNMATCHED."""
        if len(self.bank) == 0:
            return [UNMATCHED] * len(embeds)
        affinity = self.affinity(embeds, self.bank.fused).cpu().numpy()  # (N, M)
        if self.assignment == "hungarian":
            return optimal_association(affinity, self.match_threshold)
        num_frames = np.array(self.bank.num_frames) if self.frame_weight else None
        return greedy_association(affinity, self.match_threshold, num_frames)
