"""A memory bank: one representative embedding for every track, updated as the track is seen.

Shapes: M tracks in memory, N of them seen in a frame, L remembered observations, C values of an embedding.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

UPDATES = ("similarity_guided", "last", "momentum", "time_weighted")


def similarity_guided(
    fused: torch.Tensor, embeds: torch.Tensor, history: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Move towards a new observation by as much as it is like the earlier ones (CTVIS, arXiv 2307.12616, equation 2).

    Args:
        fused: (..., C) float, the representative so far.
        embeds: (..., C) float, the new observation.
        history: (..., L, C) float, earlier observations.
        known: (..., L) bool, which of them exist; at least one each.

    Returns:
        (..., C) float: (1 - b) fused + b embeds, b the mean cosine to the earlier observations, at least 0.
    """
    cosines = F.cosine_similarity(history, embeds.unsqueeze(-2), dim=-1)  # (..., L)
    mean = torch.where(known, cosines, 0).sum(-1) / known.sum(-1)
    weight = mean.clamp(min=0).unsqueeze(-1)
    return (1 - weight) * fused + weight * embeds


def time_weighted(history: torch.Tensor, scores: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean of the observations, weighted by score and by how late they came.

    Args:
        history: (N, L, C) float, the oldest first; what does not exist comes first.
        scores: (N, L) float.
        known: (N, L) bool.

    Returns:
        (N, C) float. The k-th of l existing observations has weight score + k / l.
    """
    order = known.cumsum(dim=1)  # 1..l where known
    weights = torch.where(known, scores + order / order[:, -1:], 0)  # (N, L)
    return (weights[..., None] * history).sum(dim=1) / weights.sum(dim=1, keepdim=True)


class EmbeddingBank:
    """The tracks that are still remembered, as rows of aligned tensors, in the order in which they were created.

    Memory use depends on the number of tracks remembered, not on the number of frames.

    Attributes:
        ids: M identities.
        num_frames: M numbers of frames in which each was seen.
        last_frames: M indices of the frame in which each was seen last.
        fused: (M, C) float, representatives; None before the first update.
    """

    def __init__(self, update: str = "similarity_guided", cache: int = 10, momentum: float = 0.75) -> None:
        """
        Args:
            update: how a new observation changes the representative: "similarity_guided", "last" (replaces it),
                "momentum" (a moving average), or "time_weighted" (:func:`time_weighted`).
            cache: observations remembered per track.
            momentum: share of the new observation with update "momentum".

        Raises:
            ValueError: for another ``update``.
        """
        if update not in UPDATES:
            raise ValueError(f"unknown update '{update}' (choose from {', '.join(UPDATES)})")
        self.update_rule = update
        self.cache = cache
        self.momentum = momentum
        self.ids: list[int] = []
        self.num_frames: list[int] = []
        self.last_frames: list[int] = []
        self.fused: torch.Tensor | None = None
        self._history: torch.Tensor | None = None  # (M, L, C), the latest last
        self._scores: torch.Tensor | None = None  # (M, L)

    def __len__(self) -> int:
        return len(self.ids)

    def update(self, ids: list[int], frame: int, embeds: torch.Tensor, scores: torch.Tensor) -> None:
        """Store one frame's observations.

        Args:
            ids: N different identities, known or new.
            frame: index of the frame.
            embeds: (N, C) float. scores: (N,) float.
        """
        row_of = {id_: row for row, id_ in enumerate(self.ids)}
        known = [i for i, id_ in enumerate(ids) if id_ in row_of]
        new = [i for i, id_ in enumerate(ids) if id_ not in row_of]
        if known:
            rows = [row_of[ids[i]] for i in known]
            self._observe(rows, embeds[known], scores[known])
            for row in rows:
                self.num_frames[row] += 1
                self.last_frames[row] = frame
        if new:
            self._create(embeds[new], scores[new])
            self.ids += [ids[i] for i in new]
            self.num_frames += [1] * len(new)
            self.last_frames += [frame] * len(new)

    def evict(self, frame: int, max_absence: int) -> None:
        """Forget tracks that were seen last more than ``max_absence`` frames before ``frame``."""
        keep = [row for row, last in enumerate(self.last_frames) if frame - last <= max_absence]
        if len(keep) == len(self.ids):
            return
        for name in ("ids", "num_frames", "last_frames"):
            values = getattr(self, name)
            setattr(self, name, [values[row] for row in keep])
        self.fused, self._history, self._scores = self.fused[keep], self._history[keep], self._scores[keep]

    def _create(self, embeds: torch.Tensor, scores: torch.Tensor) -> None:
        history = embeds.new_zeros(len(embeds), self.cache, embeds.shape[1])
        history[:, -1] = embeds
        cached_scores = scores.new_zeros(len(embeds), self.cache)
        cached_scores[:, -1] = scores
        if self.fused is None:
            self.fused, self._history, self._scores = embeds.clone(), history, cached_scores
        else:
            self.fused = torch.cat([self.fused, embeds])
            self._history = torch.cat([self._history, history])
            self._scores = torch.cat([self._scores, cached_scores])

    def _observe(self, rows: list[int], embeds: torch.Tensor, scores: torch.Tensor) -> None:
        before = self._known(rows)  # (N, L)
        if self.update_rule == "similarity_guided":
            self.fused[rows] = similarity_guided(self.fused[rows], embeds, self._history[rows], before)
        elif self.update_rule == "momentum":
            self.fused[rows] = (1 - self.momentum) * self.fused[rows] + self.momentum * embeds
        elif self.update_rule == "last":
            self.fused[rows] = embeds
        history = torch.cat([self._history[rows][:, 1:], embeds[:, None]], dim=1)
        cached_scores = torch.cat([self._scores[rows][:, 1:], scores[:, None]], dim=1)
        self._history[rows], self._scores[rows] = history, cached_scores
        if self.update_rule == "time_weighted":
            now = torch.cat([before[:, 1:], before.new_ones(len(rows), 1)], dim=1)
            self.fused[rows] = time_weighted(history, cached_scores, now)

    def _known(self, rows: list[int]) -> torch.Tensor:
        """(N, L) bool: which places of these rows' histories hold an observation."""
        counts = torch.tensor([self.num_frames[row] for row in rows], device=self._history.device)
        places = torch.arange(self.cache, 0, -1, device=self._history.device)  # the last place is filled first
        return places[None, :] <= counts[:, None]
