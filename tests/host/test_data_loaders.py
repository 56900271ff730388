import functools
import itertools
import logging
import pickle
import random

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    MetadataCatalog,
    ToIterableDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import print_instances_class_histogram
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from torch.utils.data import IterableDataset


class Count(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def identity(x):
    return x


# ---- datasets


@pytest.mark.parametrize("serialize", [True, False])
def test_list_dataset(serialize):
    records = [{"a": [1, 2]}, "text", None, np.arange(3)]
    dataset = DatasetFromList(records, serialize=serialize)
    assert len(dataset) == 4
    assert dataset[0] == {"a": [1, 2]} and dataset[1] == "text" and dataset[2] is None
    np.testing.assert_array_equal(dataset[3], [0, 1, 2])
    dataset[0]["a"].append(3)
    assert dataset[0] == records[0] == {"a": [1, 2]}


def test_list_dataset_without_copies():
    records = [{"a": 1}]
    assert DatasetFromList(records, copy=False, serialize=False)[0] is records[0]


def test_list_dataset_ends():
    with pytest.raises(IndexError):
        DatasetFromList([1, 2])[2]
    assert list(DatasetFromList([4, 5, 6])) == [4, 5, 6]


def test_map_dataset():
    dataset = MapDataset(DatasetFromList([1, 2, 3]), lambda x: x * 10)
    assert len(dataset) == 3 and [dataset[i] for i in range(3)] == [10, 20, 30]
    again = pickle.loads(pickle.dumps(dataset))
    assert [again[i] for i in range(3)] == [10, 20, 30]


def test_map_dataset_replaces_failures():
    dataset = MapDataset(DatasetFromList(list(range(20))), lambda x: x if x % 5 == 0 else None)
    values = [dataset[i] for i in range(20)]
    assert set(values) <= {0, 5, 10, 15} and values[::5] == [0, 5, 10, 15]
    again = MapDataset(DatasetFromList(list(range(20))), lambda x: x if x % 5 == 0 else None)
    assert values == [again[i] for i in range(20)]  # the replacements are repeatable


def test_map_dataset_over_an_iterable():
    dataset = MapDataset(Count(6), lambda x: x * 10 if x % 2 else None)
    assert isinstance(dataset, IterableDataset)
    assert list(dataset) == [10, 30, 50]
    assert list(pickle.loads(pickle.dumps(dataset))) == [10, 30, 50]


def test_aspect_ratio_groups():
    shapes = [(3, 2), (2, 3), (5, 5), (9, 2), (4, 3), (1, 2), (8, 1)]
    records = [{"width": w, "height": h} for w, h in shapes]
    batches = list(AspectRatioGroupedDataset(records, 2))
    assert [[(d["width"], d["height"]) for d in b] for b in batches] == [
        [(2, 3), (5, 5)],
        [(3, 2), (9, 2)],
        [(4, 3), (8, 1)],
    ]


def test_aspect_ratio_groups_survive_an_early_stop():
    records = [{"width": w, "height": h} for w, h in [(3, 2), (2, 3)] * 4]
    dataset = AspectRatioGroupedDataset(records, 2)
    for _ in range(5):
        assert len(next(iter(dataset))) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_sampling_in_the_workers(num_workers):
    dataset = ToIterableDataset(DatasetFromList(list("abcdefgh")), InferenceSampler(8), shard_chunk_size=2)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=num_workers, collate_fn=identity)
    assert list(loader) == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


# ---- records


@pytest.fixture
def dataset_name():
    name = "test_loaders_dataset"
    records = [
        {
            "file_name": str(i),
            "image_id": i,
            "width": 20 + 10 * (i % 2),
            "height": 25,
            "annotations": [] if i == 3 else [{"category_id": i % 2, "iscrowd": int(i == 4)}],
        }
        for i in range(8)
    ]
    DatasetCatalog.register(name, lambda: [dict(r) for r in records])
    MetadataCatalog.get(name).thing_classes = ["x", "y"]
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def ids(batches):
    return [[d["image_id"] for d in b] for b in batches]


def test_records_are_filtered(dataset_name):
    assert [d["image_id"] for d in get_detection_dataset_dicts(dataset_name)] == [0, 1, 2, 5, 6, 7]
    assert len(get_detection_dataset_dicts([dataset_name, dataset_name], filter_empty=False)) == 16


def test_datasets_must_have_the_same_classes(dataset_name):
    other = "test_loaders_other"
    DatasetCatalog.register(other, lambda: [{"annotations": [{"category_id": 0}]}])
    try:
        MetadataCatalog.get(other).thing_classes = ["z"]
        with pytest.raises(ValueError):
            get_detection_dataset_dicts([dataset_name, other])
        assert len(get_detection_dataset_dicts([dataset_name, other], check_consistency=False)) == 7
    finally:
        DatasetCatalog.remove(other)
        MetadataCatalog.remove(other)


@pytest.mark.parametrize("names", [[], ["test_loaders_empty"]])
def test_nothing_to_load(names):
    if "test_loaders_empty" not in DatasetCatalog.list():
        DatasetCatalog.register("test_loaders_empty", list)
    with pytest.raises(AssertionError):
        get_detection_dataset_dicts(names)


def test_histogram(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)  # whatever set up loggers before
    dataset = [{"annotations": [{"category_id": 0}, {"category_id": 2}, {"category_id": 2, "iscrowd": 1}]}]
    with caplog.at_level("INFO"):
        print_instances_class_histogram(dataset, ["cat", "dog", "emu", "yak"])
    cells = [c.strip() for line in caplog.text.splitlines() for c in line.split("|")]
    counts = dict(itertools.pairwise(cells))
    assert [counts[n] for n in ("cat", "emu", "total")] == ["1", "1", "2"] and counts["dog"] in ("0", "")
    with pytest.raises(AssertionError):
        print_instances_class_histogram(dataset, ["cat", "dog"])


# ---- loaders


def test_train_loader_from_config(dataset_name):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (dataset_name,)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = 3, 0, 5
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    batches = ids(itertools.islice(build_detection_train_loader(cfg, mapper=lambda x: x), 4))
    assert [len(b) for b in batches] == [3] * 4
    for epoch in (batches[:2], batches[2:]):
        assert sorted(itertools.chain(*epoch)) == [0, 1, 2, 5, 6, 7]
    assert batches == ids(itertools.islice(build_detection_train_loader(cfg, mapper=lambda x: x), 4))
    cfg.SOLVER.IMS_PER_BATCH = 2
    batches = ids(itertools.islice(build_detection_train_loader(cfg, mapper=lambda x: x, total_batch_size=1), 4))
    assert [len(b) for b in batches] == [1] * 4


@pytest.mark.parametrize("sampler", ["RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_samplers_from_config(dataset_name, sampler):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (dataset_name,)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    cfg.DATALOADER.REPEAT_THRESHOLD = 4.0
    cfg.DATALOADER.REPEAT_SQRT = False
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    batches = itertools.islice(build_detection_train_loader(cfg, mapper=lambda x: x), 48)
    epochs = [i for batch in ids(batches) for i in batch]
    if sampler == "RandomSubsetTrainingSampler":
        assert len(set(epochs)) == 3
    else:  # both categories are on half of the images: 4 / (1 / 2)
        assert sorted(epochs) == sorted([0, 1, 2, 5, 6, 7] * 8)


def test_unknown_sampler(dataset_name):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (dataset_name,)
    cfg.DATALOADER.SAMPLER_TRAIN = "NoSuchSampler"
    with pytest.raises(ValueError, match="NoSuchSampler"):
        build_detection_train_loader(cfg, mapper=lambda x: x)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("grouping", [True, False])
def test_train_loader_with_workers(num_workers, grouping):
    records = [{"i": i, "width": 1 + i % 2, "height": 1.5} for i in range(12)]
    loader = build_detection_train_loader(
        records,
        mapper=lambda d: {**d, "mapped": True},
        sampler=TrainingSampler(12, seed=0),
        total_batch_size=4,
        aspect_ratio_grouping=grouping,
        num_workers=num_workers,
    )
    batches = list(itertools.islice(loader, 3))
    assert all(len(b) == 4 and all(d["mapped"] for d in b) for b in batches)
    if grouping:
        assert all(len({d["width"] for d in b}) == 1 for b in batches)
    else:
        assert [d["i"] for b in batches for d in b] == list(itertools.islice(TrainingSampler(12, seed=0), 12))


def test_train_loader_collates():
    records = [{"i": i, "width": 2, "height": 1} for i in range(4)]
    for grouping in (True, False):
        loader = build_detection_train_loader(
            records,
            mapper=None,
            sampler=TrainingSampler(4, shuffle=False),
            total_batch_size=2,
            aspect_ratio_grouping=grouping,
            collate_fn=lambda b: [d["i"] for d in b],
        )
        assert list(itertools.islice(loader, 3)) == [[0, 1], [2, 3], [0, 1]]


def test_train_loader_over_an_iterable():
    loader = build_detection_train_loader(
        Count(5), mapper=lambda x: x + 1, total_batch_size=2, aspect_ratio_grouping=False
    )
    assert list(loader) == [[1, 2], [3, 4]]  # the incomplete batch is left out


def draws(_):
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_workers_have_their_own_random_numbers():
    build = functools.partial(build_batch_data_loader, num_workers=2, seed=7)
    dataset = MapDataset(DatasetFromList(list(range(8))), draws)
    values = [v for b in build(dataset, InferenceSampler(8), 2) for v in b]
    for stream in zip(*values):
        assert len(set(stream)) == 8
    assert values == [v for b in build(dataset, InferenceSampler(8), 2) for v in b]


def test_batch_sizes():
    dataset = DatasetFromList(list(range(5)))
    assert list(build_batch_data_loader(dataset, InferenceSampler(5), 2)) == [[0, 1], [2, 3]]
    assert list(build_batch_data_loader(dataset, InferenceSampler(5), 2, drop_last=False)) == [[0, 1], [2, 3], [4]]
    assert list(build_batch_data_loader(dataset, InferenceSampler(5), None, single_gpu_batch_size=4)) == [[0, 1, 2, 3]]
    with pytest.raises(ValueError):
        build_batch_data_loader(dataset, InferenceSampler(5), 2, single_gpu_batch_size=4)
    with pytest.raises(AssertionError):
        build_batch_data_loader(dataset, InferenceSampler(5), 0)


def test_batch_must_divide_among_processes(monkeypatch):
    monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: 3)
    dataset = DatasetFromList(list(range(6)))
    with pytest.raises(AssertionError):
        build_batch_data_loader(dataset, TrainingSampler(6), 4)
    assert [len(b) for b in itertools.islice(build_batch_data_loader(dataset, TrainingSampler(6), 6), 2)] == [2, 2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader(dataset_name, num_workers):
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = num_workers
    loader = build_detection_test_loader(cfg, dataset_name, mapper=lambda x: x)
    assert len(loader) == 8 and ids(loader) == [[i] for i in range(8)]


def test_test_loader_keeps_the_last_batch():
    loader = build_detection_test_loader(list(range(5)), mapper=lambda x: x * 2, batch_size=2)
    assert list(loader) == [[0, 2], [4, 6], [8]]
    assert list(build_detection_test_loader(Count(3), mapper=None)) == [[0], [1], [2]]
