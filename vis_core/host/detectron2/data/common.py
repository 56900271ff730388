"""Dataset wrappers that the loaders are made of."""

import copy
import itertools
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "ToIterableDataset"]


class DatasetFromList(Dataset):
    """A list as a dataset.

    Args:
        lst: the records.
        copy: give out copies, so that a caller cannot change the stored records (serialized ones are copies anyway).
        serialize: keep all records as one byte tensor. A list of many small objects would be duplicated into every
            loader worker, since reading an object writes to its reference count; one tensor is shared instead.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool = True):
        self._copy = copy
        self._serialize = serialize
        if serialize:
            blobs = [np.frombuffer(pickle.dumps(x, protocol=-1), dtype=np.uint8) for x in lst]
            self._ends = torch.from_numpy(np.cumsum([len(b) for b in blobs], dtype=np.int64))  # (N,)
            self._bytes = torch.from_numpy(np.concatenate(blobs) if blobs else np.zeros(0, dtype=np.uint8))
        else:
            self._records = lst

    def __len__(self) -> int:
        return len(self._ends) if self._serialize else len(self._records)

    def __getitem__(self, idx: int):
        if not self._serialize:
            return copy.deepcopy(self._records[idx]) if self._copy else self._records[idx]
        idx = range(len(self))[idx]  # negative indices count from the end; IndexError past it
        begin = self._ends[idx - 1].item() if idx > 0 else 0
        # only ever bytes that the constructor pickled
        return pickle.loads(memoryview(self._bytes[begin : self._ends[idx].item()].numpy()))


class _MappedIterable(IterableDataset):
    """``map_func`` over an iterable; elements for which it gives None are left out."""

    def __init__(self, dataset: Iterable, map_func: Callable):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        for x in map(self._map_func, self._dataset):
            if x is not None:
                yield x


class MapDataset(Dataset):
    """Apply ``map_func`` to the elements of a dataset.

    Where it gives None for an element of a map-style dataset, another element is drawn in its place, among those that
    have not failed yet. An iterable dataset stays iterable, and loses such elements. Lambdas survive pickling.
    """

    def __new__(cls, dataset, map_func: Callable):
        return _MappedIterable(dataset, map_func) if isinstance(dataset, IterableDataset) else super().__new__(cls)

    def __getnewargs__(self):
        return self._dataset, self._map_func

    def __init__(self, dataset, map_func: Callable):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        self._rng = random.Random(42)
        self._candidates = set(range(len(dataset)))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int):
        current = int(idx)
        for attempt in itertools.count(1):
            data = self._map_func(self._dataset[current])
            if data is not None:
                self._candidates.add(current)
                return data
            self._candidates.discard(current)
            if not self._candidates:
                raise RuntimeError("map_func gives None for every element of the dataset")
            if attempt >= 3:
                logging.getLogger(__name__).warning("map_func gave None %d times in a row for index %d", attempt, idx)
            current = self._rng.choice(tuple(self._candidates))


def _share_of_worker(indices: Iterable, chunk_size: int) -> Iterator:
    """What the current loader worker takes of ``indices``: chunks in turn, so that batches come out as one process
    would make them."""
    info = get_worker_info()
    if info is None or info.num_workers == 1:
        yield from indices
        return
    for position, x in enumerate(indices):
        if position // chunk_size % info.num_workers == info.id:
            yield x


class ToIterableDataset(IterableDataset):
    """A map-style dataset in the order of a sampler.

    The sampling then happens in the workers, not in the main process that would have to send them indices.

    Args:
        shard_sampler: whether each worker takes only its share of the sampler; False if the sampler already is one.
        shard_chunk_size: consecutive indices a worker takes at once: the batch size, if batches are formed afterwards.
    """

    def __init__(self, dataset: Dataset, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1):
        assert not isinstance(dataset, IterableDataset), "the dataset is iterable already"
        assert isinstance(sampler, Sampler), f"not a sampler: {type(sampler)}"
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __iter__(self) -> Iterator:
        indices = _share_of_worker(self.sampler, self.shard_chunk_size) if self.shard_sampler else self.sampler
        for idx in indices:
            yield self.dataset[idx]

    def __len__(self) -> int:
        return len(self.sampler)


class AspectRatioGroupedDataset(IterableDataset):
    """Batches in which all images are wider than high, or none is: padding them to one size then wastes less.

    Args:
        dataset: iterable of dicts with ``width`` and ``height``.
        batch_size: length of the lists that are given out. Elements left over at the end are not.
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int):
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: list[list[dict]] = [[], []]  # wider than high, the others

    def __iter__(self) -> Iterator[list[dict]]:
        for d in self.dataset:
            index = 0 if d["width"] > d["height"] else 1
            self._buckets[index].append(d)
            if len(self._buckets[index]) == self.batch_size:
                # emptied before the batch is handed out, since a caller may stop there and iterate again later
                batch, self._buckets[index] = self._buckets[index], []
                yield batch
