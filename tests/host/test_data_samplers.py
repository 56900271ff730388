import itertools
from collections import Counter
from unittest import mock

import pytest
import torch
from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm


def take(sampler, n):
    return list(itertools.islice(iter(sampler), n))


def as_rank(rank, world_size, build, n):
    """The first n indices of a sampler that one of several processes builds."""
    with (
        mock.patch.object(comm, "get_rank", return_value=rank),
        mock.patch.object(comm, "get_world_size", return_value=world_size),
    ):
        return take(build(), n)


def test_training_epochs_are_permutations():
    indices = take(TrainingSampler(10, seed=0), 30)
    epochs = [indices[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_training_stream_follows_the_seed():
    assert take(TrainingSampler(10, seed=3), 25) == take(TrainingSampler(10, seed=3), 25)
    assert take(TrainingSampler(10, seed=3), 25) != take(TrainingSampler(10, seed=4), 25)
    assert take(TrainingSampler(10, seed=-1), 5) == take(TrainingSampler(10, seed=-1), 5)
    # the documented recipe
    generator = torch.Generator().manual_seed(3)
    expected = [i for _ in range(2) for i in torch.randperm(10, generator=generator).tolist()]
    assert take(TrainingSampler(10, seed=3), 20) == expected


def test_training_without_shuffling():
    assert take(TrainingSampler(3, shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_training_size_is_checked():
    with pytest.raises(TypeError):
        TrainingSampler(3.0)
    with pytest.raises(ValueError):
        TrainingSampler(0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TrainingSampler(7, seed=1),
        lambda: RepeatFactorTrainingSampler(torch.tensor([1.5, 1.0, 2.2]), seed=1),
        lambda: RandomSubsetTrainingSampler(20, 0.3, seed_shuffle=1, seed_subset=2),
    ],
)
def test_processes_share_one_stream(build):
    alone = take(build(), 30)
    shares = [as_rank(rank, 3, build, 10) for rank in range(3)]
    assert [i for group in zip(*shares) for i in group] == alone


def test_random_subset():
    sampler = RandomSubsetTrainingSampler(20, 0.3, seed_subset=1)
    epochs = take(sampler, 18)
    assert len(set(epochs)) == 6
    assert all(sorted(epochs[i : i + 6]) == sorted(set(epochs)) for i in (0, 6, 12))
    other = RandomSubsetTrainingSampler(20, 0.3, seed_subset=2)
    assert set(take(other, 6)) != set(epochs)
    with pytest.raises(AssertionError):
        RandomSubsetTrainingSampler(20, 0.0)


def records(*categories):
    return [{"annotations": [{"category_id": c} for c in cs]} for cs in categories]


def test_repeat_factors():
    dataset = records([0], [0, 1], [0, 0], [2], [0, 1, 2], [0], [0], [0])  # 7/8, 2/8 and 2/8 of the images
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dataset, 0.5)
    rare = 2**0.5
    torch.testing.assert_close(factors, torch.tensor([1, rare, 1, rare, rare, 1, 1, 1]))
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dataset, 0.5, sqrt=False)
    torch.testing.assert_close(factors, torch.tensor([1.0, 2, 1, 2, 2, 1, 1, 1]))


def test_repetition_matches_the_factors():
    factors = torch.tensor([1.0, 1.5, 3.25])
    epochs = 200
    counts = Counter(take(RepeatFactorTrainingSampler(factors, seed=0), round(5.75 * epochs)))
    for i, factor in enumerate(factors.tolist()):
        assert abs(counts[i] / epochs - factor) < 0.15
    whole = take(RepeatFactorTrainingSampler(torch.tensor([1.0, 2.0]), shuffle=False), 6)
    assert whole == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("size", "world_size"), [(10, 3), (9, 3), (2, 4), (1, 1), (7, 7)])
def test_inference_shards(size, world_size):
    shards = []
    for rank in range(world_size):
        with (
            mock.patch.object(comm, "get_rank", return_value=rank),
            mock.patch.object(comm, "get_world_size", return_value=world_size),
        ):
            sampler = InferenceSampler(size)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    assert [i for shard in shards for i in shard] == list(range(size))
    lengths = [len(s) for s in shards]
    assert max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)
