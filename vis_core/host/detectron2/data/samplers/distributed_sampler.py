"""Samplers for training (endless) and inference (one pass) on one or many processes.

In training all processes draw the same endless stream of indices, and process r of n takes every n-th one from the
r-th on; so together they see the stream that one process would see.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import torch
from detectron2.utils import comm
from torch.utils.data import Sampler

__all__ = ["InferenceSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler", "TrainingSampler"]


class _EndlessSampler(Sampler):
    """Epoch after epoch of indices; every process takes its share of the common stream.

    Args:
        shuffle: permute each epoch.
        seed: of the stream; None lets the processes agree on a random one.
    """

    def __init__(self, shuffle: bool, seed: int | None):
        self._shuffle = shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        """Indices of one epoch before shuffling, (N,) int64."""
        raise NotImplementedError

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            indices = self._epoch(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._stream(), self._rank, None, self._world_size)


class TrainingSampler(_EndlessSampler):
    """Endless epochs of ``range(size)``, each shuffled anew."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        if not isinstance(size, int):
            raise TypeError(f"size must be an int, got {type(size)}")
        if size <= 0:
            raise ValueError(f"size must be positive, got {size}")
        self._size = size
        super().__init__(shuffle, seed)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(_EndlessSampler):
    """Endless epochs of a random part of ``range(size)``, chosen once.

    Args:
        subset_ratio: fraction of the dataset, in (0, 1].
        seed_shuffle: seed of the order; seed_subset: seed of the choice. None: a random one, common to all processes.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        assert 0.0 < subset_ratio <= 1.0, f"subset_ratio must lie in (0, 1], got {subset_ratio}"
        super().__init__(shuffle, seed_shuffle)
        generator = torch.Generator()
        generator.manual_seed(comm.shared_random_seed() if seed_subset is None else int(seed_subset))
        self._subset = torch.randperm(size, generator=generator)[: int(size * subset_ratio)]
        assert len(self._subset) > 0, f"{subset_ratio} of {size} records is less than one"

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return self._subset


class RepeatFactorTrainingSampler(_EndlessSampler):
    """Endless epochs in which record i appears ``repeat_factors[i]`` times on average (LVIS, arXiv:1908.03195).

    The whole part of a factor is certain, the rest is a chance that is drawn anew for every epoch.
    """

    def __init__(self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None):
        super().__init__(shuffle, seed)
        self._whole = torch.trunc(repeat_factors)
        self._chance = repeat_factors - self._whole

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Repeat records with rare categories.

        f(c) is the fraction of records that show category c; a category's factor is max(1, sqrt(repeat_thresh / f(c))),
        without the root if not ``sqrt``; a record's factor is the highest of its categories (1 without any).

        Returns:
            (number of records,) float32.
        """
        shown = [{annotation["category_id"] for annotation in record["annotations"]} for record in dataset_dicts]
        count = Counter(category for categories in shown for category in categories)
        factor = {}
        for category, n in count.items():
            ratio = repeat_thresh / (n / len(dataset_dicts))
            factor[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
        factors = [max((factor[category] for category in categories), default=1.0) for categories in shown]
        return torch.tensor(factors, dtype=torch.float32)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        extra = torch.rand(len(self._chance), generator=generator) < self._chance
        return torch.repeat_interleave((self._whole + extra).long())


class InferenceSampler(Sampler):
    """Each index once: process r gets the r-th contiguous part of ``range(size)``, sizes differing by at most one."""

    def __init__(self, size: int):
        assert size > 0, f"nothing to sample from a dataset of size {size}"
        self._size = size
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        length, longer = divmod(total_size, world_size)
        # the first `longer` parts have one more
        begin = length * rank + min(rank, longer)
        return range(begin, begin + length + (rank < longer))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
