"""Consistent training of CTVIS: contrastive items from a clip's memory bank (arXiv 2307.12616, sections 3.1 and 3.2).

Pure functions on one clip. Shapes: T frames, N objects (rows of the clip's ground truth), Q queries, C values of an
embedding, n items, S candidates of an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass
class Objects:
    """The objects of one clip in terms of its queries.

    Attributes:
        embeds: (T, N, C) float, each object's embedding in each frame; any value where it has none.
        queries: (T, N) int64 on the CPU, the query that the embedding is of; 0 where there is none.
        observed: (T, N) bool on the CPU, whether there is one.
        negatives: (T, N, Q) bool, the queries that are something else.
    """

    embeds: torch.Tensor
    queries: torch.Tensor
    observed: torch.Tensor
    negatives: torch.Tensor


@dataclass
class Items:
    """Anchors compared with candidates; a candidate that is neither positive nor negative has no part.

    Attributes:
        logits: (n, S) float, dot products with the anchor. cosines: (n, S) float.
        positive, negative: (n, S) bool; at least one positive each.
    """

    logits: torch.Tensor
    cosines: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


def clip_objects(
    embeds: torch.Tensor,
    queries: torch.Tensor,
    visible: torch.Tensor,
    num_negatives: int = 0,
    noise: bool = False,
    noise_probability: float = 0.001,
) -> Objects:
    """Embeddings and negatives of a clip's objects.

    Args:
        embeds: (T, Q, C) float.
        queries: (T, N) int64 on the CPU, the query that each object was matched with, if it is visible.
        visible: (T, N) bool on the CPU.
        num_negatives: of a visible object, drawn among the other queries; 0 = all others. What is not visible has
            all queries as negatives.
        noise: where an object is not visible a random query takes its place with ``noise_probability``, to train for
            identity switches (numpy draws, frame by frame, then row by row).
    """
    num_queries = embeds.shape[1]
    negatives = torch.ones(*queries.shape, num_queries, dtype=torch.bool)  # (T, N, Q)
    negatives[visible] = F.one_hot(queries[visible], num_queries) == 0
    if 0 < num_negatives < num_queries - 1:
        drawn = torch.rand(negatives.shape).masked_fill(~negatives, -1).topk(num_negatives, dim=-1).indices
        few = torch.zeros_like(negatives).scatter(-1, drawn, True)
        negatives = torch.where(visible[..., None], few, negatives)
    observed, queries = visible.clone(), queries.clone()
    if noise:
        for t, row in (~visible).nonzero().tolist():
            if np.random.rand() >= 1 - noise_probability:
                queries[t, row] = int(np.random.randint(num_queries))
                observed[t, row] = True
    queries = torch.where(observed, queries, 0)
    frames = torch.arange(len(embeds))[:, None]
    return Objects(embeds[frames, queries.to(embeds.device)], queries, observed, negatives.to(embeds.device))


def fused_embeddings(embeds: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Each object's representative in the memory bank after each frame, with its whole history in the graph.

    As :func:`vis_core.tracking.similarity_guided`, but with all earlier observations, not the last ten.

    Args:
        embeds: (T, N, C) float. observed: (T, N) bool.

    Returns:
        (T, N, C) float; carried over where the object is absent, 0 before it first appears.
    """
    num_frames = len(embeds)
    unit = F.normalize(embeds, dim=-1)
    cosines = torch.einsum("snc,tnc->tsn", unit, unit)  # (T, T, N): of frame t with frame s
    observed = observed.to(embeds.device)
    fused = [torch.where(observed[0, :, None], embeds[0], 0)]
    for t in range(1, num_frames):
        num_earlier = observed[:t].sum(dim=0)  # (N,)
        mean = torch.where(observed[:t], cosines[t, :t], 0).sum(dim=0) / num_earlier.clamp(min=1)
        weight = torch.where(num_earlier > 0, mean.clamp(min=0), 1)[:, None]  # (N, 1)
        moved = (1 - weight) * fused[-1] + weight * embeds[t]
        fused.append(torch.where(observed[t, :, None], moved, fused[-1]))
    return torch.stack(fused)


def memory_items(
    embeds: torch.Tensor, objects: Objects, momentum: bool = True, all_first_appearances: bool = False
) -> Items:
    """One item for every object in every frame but the first.

    Positive: the fused embedding as of the frame before (``momentum``, for half of the items, by a numpy draw each),
    or the object's last embedding, or at its first appearance its next one. Negatives: those of the frame before.

    Args:
        embeds: (T, Q, C) float.
        objects: of :func:`clip_objects`.
        all_first_appearances: False drops an object's first appearance in frame t if exactly t of the later frames
            do not show it, which the published training did by mistake.

    Returns:
        Items with S = 1 + Q, the positive first.
    """
    observed = objects.observed.T.tolist()  # N lists of T
    num_frames = len(embeds)
    anchors, partners, fused = [], [], []  # (frame, row) of each item; of its positive; is that the fused embedding?
    for t in range(1, num_frames):
        for row, seen in enumerate(observed):
            if not seen[t]:
                continue
            earlier = [s for s in range(t) if seen[s]]
            later = [s for s in range(t + 1, num_frames) if seen[s]]
            num_absent_later = num_frames - 1 - t - len(later)
            if earlier:
                from_bank = momentum and np.random.rand() > 0.5
                partners.append((t - 1 if from_bank else earlier[-1], row))
                fused.append(from_bank)
            elif later and (all_first_appearances or num_absent_later != t):
                partners.append((later[0], row))
                fused.append(False)
            else:
                continue
            anchors.append((t, row))
    at, row = _indices(anchors)
    partner_at, _ = _indices(partners)
    from_bank = torch.tensor(fused, dtype=torch.bool, device=embeds.device)[:, None]
    bank = fused_embeddings(objects.embeds, objects.observed)
    anchor = objects.embeds[at, row]  # (n, C)
    positive = torch.where(from_bank, bank[partner_at, row], objects.embeds[partner_at, row])
    n = torch.arange(len(at))

    def compare(a: torch.Tensor, p: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        to_all = torch.einsum("nc,tqc->ntq", a, x)
        return torch.cat([(a * p).sum(dim=1, keepdim=True), to_all[n, at - 1]], dim=1)  # (n, 1 + Q)

    unit = [F.normalize(x, dim=-1) for x in (anchor, positive, embeds)]
    negative = F.pad(objects.negatives[at - 1, row], (1, 0), value=False)
    first = torch.zeros_like(negative)
    first[:, 0] = True
    return Items(compare(anchor, positive, embeds), compare(*unit), first, negative)


def multi_reference_items(embeds: torch.Tensor, objects: Objects, one_direction: bool = True) -> Items:
    """One item for every object of the first frame (``one_direction``) or of every frame.

    Positives: the object's embeddings in all other frames; without any there is no item. Negatives: those of all
    other frames.

    Returns:
        Items with S = T Q.
    """
    num_frames, num_queries, _ = embeds.shape
    own = (F.one_hot(objects.queries, num_queries) == 1) & objects.observed[..., None]  # (T, N, Q)
    anchors = [
        (t, row)
        for t in range(1 if one_direction else num_frames)
        for row in objects.observed[t].nonzero().flatten().tolist()
        if objects.observed[:, row].sum() > 1
    ]
    at, row = _indices(anchors)
    anchor = objects.embeds[at, row]  # (n, C)
    flat = embeds.flatten(0, 1)  # (T Q, C)
    other = torch.arange(num_frames)[None, :] != at[:, None]  # (n, T)
    other = other[:, :, None].expand(-1, -1, num_queries).flatten(1)  # (n, T Q)
    return Items(
        logits=anchor @ flat.T,
        cosines=F.normalize(anchor, dim=1) @ F.normalize(flat, dim=1).T,
        positive=(own.transpose(0, 1)[row].flatten(1) & other).to(embeds.device),
        negative=objects.negatives.transpose(0, 1)[row].flatten(1) & other.to(embeds.device),
    )


def contrastive_losses(items: Items) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrastive and auxiliary loss of each item, (n,) float32.

    Contrastive: log(1 + sum over positives p and negatives m of exp(logit m - logit p)). Auxiliary: mean squared
    difference of the cosines from 1 for positives, 0 for negatives.
    """
    negatives = items.logits.masked_fill(~items.negative, -torch.inf).logsumexp(dim=1)
    positives = (-items.logits).masked_fill(~items.positive, -torch.inf).logsumexp(dim=1)
    contrastive = F.softplus(negatives + positives)
    takes_part = items.positive | items.negative
    squared = torch.where(takes_part, (items.cosines - items.positive.float()) ** 2, 0)
    return contrastive, squared.sum(dim=1) / takes_part.sum(dim=1)


def _indices(pairs: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs (frame, row) to two index tensors (n,) int64."""
    frames, rows = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return frames, rows
