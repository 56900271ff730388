"""Training and test loaders: from records to batches."""

import operator
from collections.abc import Callable

import torch
from detectron2.config import configurable
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng
from torch.utils.data import DataLoader, IterableDataset, Sampler

from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper
from .records import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    print_instances_class_histogram,
)
from .samplers import InferenceSampler, RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "print_instances_class_histogram",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]


def trivial_batch_collator(batch: list) -> list:
    """A batch is the list of its elements."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed python, numpy and torch of a loader worker from torch's seed of the main process."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset,
    sampler: Sampler | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    seed: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    **kwargs,
):
    """Batches for this process.

    Args:
        dataset: map-style, or iterable (then ``sampler`` is None).
        total_batch_size: over all processes, of which there must be a divisor of it (AssertionError).
        aspect_ratio_grouping: batches of images of the same orientation; elements need ``width`` and ``height``.
        collate_fn: from a list of elements to a batch; default: the list.
        drop_last: leave out a last batch that is not full.
        single_gpu_batch_size: batch size of this process, in place of ``total_batch_size``.
        seed: of the workers' random numbers.
        kwargs: further arguments of :class:`torch.utils.data.DataLoader`.
    """
    if single_gpu_batch_size:
        if total_batch_size:
            raise ValueError("give total_batch_size or single_gpu_batch_size, not both")
        batch_size = single_gpu_batch_size
    else:
        world_size = get_world_size()
        assert total_batch_size and total_batch_size > 0 and total_batch_size % world_size == 0, (
            f"a total batch size of {total_batch_size} cannot be divided among {world_size} processes"
        )
        batch_size = total_batch_size // world_size

    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset has an order of its own: no sampler"
    else:
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)

    generator = None
    if seed is not None:
        generator = torch.Generator()
        generator.manual_seed(seed)
    options = {
        "num_workers": num_workers,
        "worker_init_fn": worker_init_reset_seed,
        "generator": generator,
        "pin_memory": pin_memory,
        **kwargs,
    }
    if num_workers > 0:
        options.update(prefetch_factor=prefetch_factor, persistent_workers=persistent_workers)

    if not aspect_ratio_grouping:
        collate = trivial_batch_collator if collate_fn is None else collate_fn
        return DataLoader(dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate, **options)
    assert drop_last, "grouping by aspect ratio cannot keep incomplete batches"
    # the loader hands on single elements; the groups are formed in this process
    elements = DataLoader(dataset, collate_fn=operator.itemgetter(0), **options)
    grouped = AspectRatioGroupedDataset(elements, batch_size)
    return grouped if collate_fn is None else MapDataset(grouped, collate_fn)


def _train_sampler(cfg, dataset) -> Sampler | None:
    """The sampler that DATALOADER.SAMPLER_TRAIN names, seeded with SEED."""
    if isinstance(dataset, IterableDataset):
        return None
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=cfg.SEED, seed_subset=cfg.SEED)
    raise ValueError(f"DATALOADER.SAMPLER_TRAIN: there is no sampler '{name}'")


def _train_loader_from_config(cfg, mapper=None, *, dataset=None, sampler=None) -> dict:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    return {
        "dataset": dataset,
        "sampler": _train_sampler(cfg, dataset) if sampler is None else sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
    **kwargs,
):
    """Endless training batches; call it with a config, or with these arguments.

    Args:
        dataset: list of records, or a torch dataset.
        mapper: from a record to an element of a batch; None: the record itself.
        sampler: default :class:`TrainingSampler`; None for an iterable dataset.
        total_batch_size, aspect_ratio_grouping, num_workers, collate_fn, kwargs: see :func:`build_batch_data_loader`.

    Returns:
        Iterable of lists of length total_batch_size / number of processes.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = TrainingSampler(len(dataset))
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(cfg, dataset_name: str | list[str], mapper=None) -> dict:
    dataset = get_detection_dataset_dicts(
        dataset_name,
        filter_empty=False,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TEST if cfg.MODEL.LOAD_PROPOSALS else None,
    )
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
) -> DataLoader:
    """One pass over a dataset in batches; call it with (config, dataset name), or with these arguments.

    Args:
        dataset, mapper, num_workers, collate_fn: as in :func:`build_detection_train_loader`.
        sampler: default :class:`InferenceSampler`; None for an iterable dataset.
        batch_size: of this process; the last batch may be shorter.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset has an order of its own: no sampler"
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=trivial_batch_collator if collate_fn is None else collate_fn,
    )
