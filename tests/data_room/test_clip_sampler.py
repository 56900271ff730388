"""Order of clips: independent of processes and restarts, in the asked proportions, nothing left out."""

from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest

from vis_core.data.clip_sampler import DRAW_BLOCK, ClipSampler

SETTINGS = [
    {"sizes": [7], "weights": None},
    {"sizes": [7, 12], "weights": None},
    {"sizes": [7, 12], "weights": [1, 1.5]},
]


def batches(num, **options):
    return list(islice(ClipSampler(**{"batch_size": 4, "seed": 3, **options}), num))


def flat(lists):
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize("options", SETTINGS)
def test_processes_share_the_batches_of_one(options):
    alone = batches(30, **options)
    for world_size in (2, 4):
        parts = [batches(30, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
        assert [flat(together) for together in zip(*parts)] == alone


@pytest.mark.parametrize("options", [*SETTINGS, {**SETTINGS[2], "whole_batches": True}])
def test_starting_later_is_skipping(options):
    assert batches(10, start_iter=25, **options) == batches(35, **options)[25:]


def test_starting_beyond_a_block_of_draws():
    options = {"sizes": [5, 9], "weights": [1, 3], "batch_size": 64}
    start = DRAW_BLOCK // 64 * 2 + 1
    for whole in (False, True):
        later = batches(3, start_iter=start, whole_batches=whole, **options)
        assert later == batches(start + 3, whole_batches=whole, **options)[start:]


def test_an_epoch_shows_everything_once():
    clips = flat(batches(19 * 2, sizes=[7, 12], weights=None, batch_size=1))
    for epoch in (clips[:19], clips[19:]):
        assert Counter(c[:2] for c in epoch) == Counter([(0, i) for i in range(7)] + [(1, i) for i in range(12)])
    assert [c[:2] for c in clips[:19]] != [c[:2] for c in clips[19:]]
    weighted = [c[:2] for c in flat(batches(200, **SETTINGS[2]))]
    ours = [item for source, item in weighted if source == 1]
    assert sorted(ours[:12]) == sorted(ours[12:24]) == list(range(12))


def test_ratio_and_mixing_within_batches():
    drawn = [[source for source, *_ in batch] for batch in batches(3000, sizes=[50, 50], weights=[1, 1.5])]
    assert np.mean(drawn) == pytest.approx(0.6, abs=0.02)
    assert any(len(set(batch)) == 2 for batch in drawn)


def test_whole_batches_come_from_one_source():
    drawn = [
        [source for source, *_ in batch]
        for batch in batches(3000, sizes=[50, 50], weights=[1, 1.5], whole_batches=True, world_size=2)
    ]
    assert all(len(set(batch)) == 1 for batch in drawn)
    assert np.mean(drawn) == pytest.approx(0.6, abs=0.03)


def test_seeds_differ_by_clip_and_run():
    seeds = [seed for *_, seed in flat(batches(100, sizes=[7], weights=None))]
    assert len(set(seeds)) == len(seeds)
    other = [seed for *_, seed in flat(batches(100, sizes=[7], weights=None, seed=4))]
    assert not set(seeds) & set(other)
    assert [c[:2] for c in flat(batches(9, sizes=[7], weights=None))] != [
        c[:2] for c in flat(batches(9, sizes=[7], weights=None, seed=4))
    ]
