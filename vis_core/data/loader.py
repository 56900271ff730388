"""Config -> loaders.

Training batches depend on the seed and the iteration only (clip_sampler.py, seeding.py): a resumed run sees what the
uninterrupted one would have, and N processes together see what one would. Grouping by aspect ratio cannot be had
with that, because a group's next batch depends on what was left over before.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator

import cv2
from detectron2.data import DatasetCatalog, DatasetMapper, build_detection_test_loader
from detectron2.utils import comm
from torch import Generator
from torch.utils.data import DataLoader

from vis_core.data.clip_dataset import ClipDataset, ClipSource
from vis_core.data.clip_sampler import ClipSampler
from vis_core.data.custom import register_custom
from vis_core.data.filtering import drop_crowded, drop_empty, is_video
from vis_core.data.mapper import PseudoClipMapper, TestMapper, VideoClipMapper
from vis_core.data.metadata import dataset_metadata
from vis_core.errors import ConfigError, DataError, VisError

logger = logging.getLogger(__name__)

MANY_FILES = 65536


class ClipLoader:
    """Endless iterable of batches (lists of clips), those of this process.

    Iterating begins with iteration ``start_iter``; :meth:`set_start` changes it for iterators made afterwards.
    """

    def __init__(self, dataset: ClipDataset, sampler: ClipSampler, num_workers: int = 0):
        self.dataset = dataset
        self.sampler = sampler
        self.num_workers = num_workers

    def set_start(self, iteration: int) -> None:
        self.sampler.start_iter = iteration

    def __iter__(self) -> Iterator[list[dict]]:
        if self.num_workers:
            _allow_many_files()
        batches = DataLoader(
            self.dataset,
            batch_sampler=self.sampler,
            num_workers=self.num_workers,
            collate_fn=_as_list,
            worker_init_fn=_one_thread,
            generator=Generator(),  # else a draw from the global generator
        )
        for batch in batches:
            if errors := [clip for clip in batch if isinstance(clip, VisError)]:
                raise errors[0]
            yield batch
            del batch  # the next one is fetched with this one's files closed


def build_train_loader(cfg, start_iter: int = 0) -> ClipLoader:
    """Loader of training clips from DATASETS.TRAIN, beginning with the batch of iteration ``start_iter``.

    A data set of videos gives clips of their frames, one of images pseudo-videos; DATASETS.DATASET_RATIO mixes them.

    Raises:
        ConfigError: unknown data set, or keys that contradict each other.
        DataError: from reading annotations; later, while iterating, from reading images.
    """
    _check_keys(cfg)
    register_custom(cfg)
    sources = [_clip_source(cfg, name) for name in cfg.DATASETS.TRAIN]
    sampler = ClipSampler(
        sizes=[len(source) for source in sources],
        weights=list(cfg.DATASETS.DATASET_RATIO) or None,
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=max(cfg.SEED, 0),
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start_iter=start_iter,
        whole_batches=not cfg.DATASETS.MIX_WITHIN_BATCH,
    )
    dataset = ClipDataset(sources, redraw_empty=cfg.INPUT.SAMPLING_REDRAW_EMPTY)
    return ClipLoader(dataset, sampler, cfg.DATALOADER.NUM_WORKERS)


def build_test_loader(cfg, dataset_name: str):
    """One pass over the videos of ``dataset_name``, one at a time, each process a contiguous share of them.

    Frames are read while the model asks for them (network_frames.py), so there are no worker processes. A data set of
    images is read Detectron2's way, for models of images.
    """
    register_custom(cfg)
    records = load_records(dataset_name, "DATASETS.TEST")
    if records and not is_video(records[0]):
        mapper = DatasetMapper(cfg, is_train=False)
        return build_detection_test_loader(records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)
    return build_detection_test_loader(records, mapper=TestMapper(cfg), num_workers=0)


def load_records(dataset_name: str, key: str) -> list[dict]:
    """Records of a registered data set. Raises ConfigError, naming the config ``key``, if there is no such."""
    names = DatasetCatalog.list()
    if dataset_name not in names:
        close = difflib.get_close_matches(dataset_name, names, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else " (list it under DATASETS.CUSTOM, or call register_ytvis)"
        raise ConfigError(f"{key}: no data set '{dataset_name}' is registered{hint}")
    return DatasetCatalog.get(dataset_name)


def _clip_source(cfg, name: str) -> ClipSource:
    records = load_records(name, "DATASETS.TRAIN")
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = drop_empty(records, name)
    if cfg.INPUT.PSEUDO.MAX_OBJECTS and records and not is_video(records[0]):
        records = drop_crowded(records, cfg.INPUT.PSEUDO.MAX_OBJECTS, name)
    if not records:
        raise DataError(f"data set '{name}' has nothing to train on")
    num_classes = len(dataset_metadata(name).thing_classes)
    pseudo = cfg.INPUT.PSEUDO.IMAGE_MODE or not is_video(records[0])
    mapper = (PseudoClipMapper if pseudo else VideoClipMapper).from_config(cfg, num_classes)
    source = ClipSource(name, records, mapper, cfg.INPUT.SAMPLING_UNIT)
    logger.info("%s: %d records, %d clips an epoch", name, len(records), len(source))
    return source


def _check_keys(cfg) -> None:
    names, ratio = cfg.DATASETS.TRAIN, cfg.DATASETS.DATASET_RATIO
    if not names:
        raise ConfigError("DATASETS.TRAIN is empty: name at least one data set")
    if len(ratio) and (len(ratio) != len(names) or min(ratio) <= 0):
        raise ConfigError(f"DATASETS.DATASET_RATIO {list(ratio)}: one positive number for each of {list(names)}")
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH <= 0 or cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ConfigError(f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}: not a multiple of {world_size} processes")
    if cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        raise ConfigError("DATALOADER.ASPECT_RATIO_GROUPING True: clips are not grouped by shape; set it to False")
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ConfigError(f"DATALOADER.SAMPLER_TRAIN '{cfg.DATALOADER.SAMPLER_TRAIN}': only TrainingSampler is known")


def _allow_many_files() -> None:
    """Workers send each tensor as an open file: 50 for a clip of ten frames, thousands for the batches under way, where
    shells often allow 1024. Up to the hard limit that may be raised."""
    try:
        import resource
    except ImportError:  # Windows shares tensors in another way
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _as_list(clips: list) -> list:
    return clips


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
