import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from projects.ctvis.contrastive import (
    clip_objects,
    contrastive_losses,
    fused_embeddings,
    memory_items,
    multi_reference_items,
)

T, N, Q, C = 6, 4, 9, 5


@pytest.fixture
def clip():
    """Embeddings (T, Q, C), matched queries (T, N) and visibility (T, N) of a clip."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(T, Q, C, generator=generator, dtype=torch.float64)
    queries = torch.stack([torch.randperm(Q, generator=generator)[:N] for _ in range(T)])
    visible = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1], [0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]).T.bool()
    return embeds, queries, visible


def plain_fused(embeds, seen):
    """One track: (T, C) embeddings and T flags to what the bank holds after each frame."""
    fused, history, out = None, [], []
    for e, s in zip(embeds, seen):
        if s:
            if fused is None:
                fused = e
            else:
                weight = max(sum(F.cosine_similarity(h, e, dim=0) for h in history) / len(history), 0)
                fused = (1 - weight) * fused + weight * e
            history.append(e)
        out.append(torch.zeros(embeds.shape[1], dtype=embeds.dtype) if fused is None else fused)
    return torch.stack(out)


def test_fused_embeddings(clip):
    objects = clip_objects(*clip)
    fused = fused_embeddings(objects.embeds, objects.observed)
    for row in range(N):
        torch.testing.assert_close(fused[:, row], plain_fused(objects.embeds[:, row], clip[2][:, row]))


def test_the_gradient_runs_through_the_whole_history(clip):
    embeds, queries, visible = clip
    embeds = embeds.abs().requires_grad_()  # cosines above 0: every observation counts
    objects = clip_objects(embeds, queries, visible)
    fused_embeddings(objects.embeds, objects.observed)[-1, 0].sum().backward()
    touched = embeds.grad.abs().sum(dim=2) > 0  # (T, Q)
    assert touched.nonzero().tolist() == [[t, queries[t, 0].item()] for t in range(T)]


@pytest.mark.parametrize("coin", [0.2, 0.9])
def test_memory_items(clip, coin, monkeypatch):
    """Every item, compared with the rule written down for one object at a time."""
    embeds, queries, visible = clip
    monkeypatch.setattr(np.random, "rand", lambda: coin)
    objects = clip_objects(embeds, queries, visible)
    items = memory_items(embeds, objects, momentum=True, all_first_appearances=True)
    expected = []
    for t, row in itertools.product(range(1, T), range(N)):
        seen = visible[:, row].tolist()
        earlier, later = [s for s in range(t) if seen[s]], [s for s in range(t + 1, T) if seen[s]]
        if not seen[t] or not (earlier or later):
            continue
        track = objects.embeds[:, row]
        if earlier:
            positive = plain_fused(track, seen)[t - 1] if coin > 0.5 else track[earlier[-1]]
        else:
            positive = track[later[0]]
        others = [q for q in range(Q) if not (seen[t - 1] and q == queries[t - 1, row])]
        negatives = embeds[t - 1, others]
        d_pos, d_neg = track[t] @ positive, negatives @ track[t]
        cosines = F.cosine_similarity(track[t][None], torch.cat([positive[None], negatives]), dim=1)
        labels = torch.tensor([1.0] + [0.0] * len(others), dtype=torch.float64)
        expected.append((torch.log(1 + (d_neg - d_pos).exp().sum()), ((cosines - labels) ** 2).mean()))
    losses = contrastive_losses(items)
    assert len(expected) == len(losses[0]) > 8
    torch.testing.assert_close(losses[0], torch.stack([a for a, _ in expected]))
    torch.testing.assert_close(losses[1], torch.stack([b for _, b in expected]))


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([0, 1, 1, 0, 1], False),  # first seen in frame 1, absent in one later frame: lost
        ([0, 1, 1, 1, 1], True),
        ([0, 1, 0, 0, 1], True),
        ([0, 0, 1, 1, 1], True),
        ([0, 1, 0, 1, 1], False),
        ([0, 0, 0, 0, 1], None),  # never seen again: no partner
        ([0, 0, 1, 0, 0], None),
    ],
)
def test_first_appearances(seen, kept):
    embeds = torch.randn(5, Q, C, generator=torch.Generator().manual_seed(1))
    visible = torch.tensor(seen).bool()[:, None]
    objects = clip_objects(embeds, torch.zeros(5, 1, dtype=torch.int64), visible)
    first = seen.index(1)
    rest = sum(seen[first + 1 :])

    def count(every):
        return len(memory_items(embeds, objects, momentum=False, all_first_appearances=every).logits)

    assert count(True) == rest + (kept is not None)
    assert count(False) == rest + (kept is True)


def test_without_momentum_no_coin_is_tossed(clip, monkeypatch):
    monkeypatch.setattr(np.random, "rand", lambda: pytest.fail("drew"))
    memory_items(clip[0], clip_objects(*clip), momentum=False)


def test_fewer_negatives(clip):
    embeds, queries, visible = clip
    torch.manual_seed(0)
    negatives = clip_objects(embeds, queries, visible, num_negatives=3).negatives
    assert negatives[visible].sum(dim=1).eq(3).all()
    assert negatives[~visible].all()
    assert not negatives[visible].gather(1, queries[visible][:, None]).any()
    # All queries are candidates, wherever they stand.
    drawn = sum(clip_objects(embeds, queries, visible, num_negatives=3).negatives[0, 0].int() for _ in range(100))
    assert (drawn > 0).sum() == Q - 1


def test_noise_takes_the_place_of_invisible_objects(clip, monkeypatch):
    embeds, queries, visible = clip
    monkeypatch.setattr(np.random, "rand", lambda: 0.9999)
    monkeypatch.setattr(np.random, "randint", lambda n: n - 1)
    objects = clip_objects(embeds, queries, visible, noise=True)
    assert objects.observed.all()
    torch.testing.assert_close(objects.embeds[~visible], embeds[:, -1:].expand(-1, N, -1)[~visible])
    assert objects.negatives[~visible].all()
    monkeypatch.setattr(np.random, "rand", lambda: 0.5)
    assert clip_objects(embeds, queries, visible, noise=True).observed.equal(visible)
    assert clip_objects(embeds, queries, visible, noise=True, noise_probability=0.6).observed.all()


@pytest.mark.parametrize("one_direction", [True, False])
def test_multi_reference_items(clip, one_direction):
    embeds, queries, visible = clip
    items = multi_reference_items(embeds, clip_objects(*clip), one_direction)
    expected = []
    for t, row in itertools.product(range(1 if one_direction else T), range(N)):
        partners = [s for s in range(T) if s != t and visible[s, row]]
        if not visible[t, row] or not partners:
            continue
        anchor = embeds[t, queries[t, row]]
        positives = torch.stack([embeds[s, queries[s, row]] for s in partners])
        negatives = torch.cat(
            [
                embeds[s, [q for q in range(Q) if not (visible[s, row] and q == queries[s, row])]]
                for s in range(T)
                if s != t
            ]
        )
        pairs = (negatives @ anchor)[None, :] - (positives @ anchor)[:, None]
        cosines = F.cosine_similarity(anchor[None], torch.cat([positives, negatives]), dim=1)
        labels = torch.tensor([1.0] * len(positives) + [0.0] * len(negatives), dtype=torch.float64)
        expected.append((torch.log(1 + pairs.exp().sum()), ((cosines - labels) ** 2).mean()))
    losses = contrastive_losses(items)
    torch.testing.assert_close(losses[0], torch.stack([a for a, _ in expected]))
    torch.testing.assert_close(losses[1], torch.stack([b for _, b in expected]))


@pytest.mark.parametrize("make", [memory_items, multi_reference_items])
@pytest.mark.parametrize("num_objects", [0, 2])
def test_nothing_to_learn(make, num_objects):
    embeds = torch.randn(3, Q, C, requires_grad=True)
    queries = torch.zeros(3, num_objects, dtype=torch.int64)
    items = make(embeds, clip_objects(embeds, queries, torch.zeros(3, num_objects, dtype=torch.bool)))
    assert len(items.logits) == 0
    assert [len(x) for x in contrastive_losses(items)] == [0, 0]


def test_a_clip_of_one_frame():
    embeds = torch.randn(1, Q, C)
    objects = clip_objects(embeds, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool))
    assert len(memory_items(embeds, objects).logits) == len(multi_reference_items(embeds, objects).logits) == 0


def test_huge_logits_stay_finite(clip):
    items = memory_items(clip[0] * 1e3, clip_objects(clip[0] * 1e3, *clip[1:]), momentum=False)
    assert torch.isfinite(contrastive_losses(items)[0]).all()
