"""Config -> batches: the same whatever the workers, processes and restarts; errors in one line."""

import random
import zlib
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from vis_core.config import add_vis_config
from vis_core.data import build_test_loader, build_train_loader, register_shapes
from vis_core.data.loader import ClipLoader
from vis_core.data.seeding import seeded
from vis_core.data.shapes import ShapesConfig
from vis_core.errors import ConfigError, DataError

VIDEOS, LENGTH = 5, 6


@pytest.fixture(scope="module", autouse=True)
def data_sets(tmp_path_factory):
    """loader_videos, its first frames as loader_images (COCO style records), and loader_empty: no objects."""
    root = tmp_path_factory.mktemp("shapes")
    config = ShapesConfig(num_videos=VIDEOS, length=LENGTH, height=48, width=64)
    register_shapes("loader_videos", config, root)
    records = DatasetCatalog.get("loader_videos")
    images = [
        {
            "file_name": r["file_names"][0],
            "height": r["height"],
            "width": r["width"],
            "image_id": r["video_id"],
            "annotations": r["annotations"][0],
        }
        for r in records
    ]
    half = [{**r, "annotations": [[]] * LENGTH} if r["video_id"] > 2 else r for r in records]
    classes = MetadataCatalog.get("loader_videos").thing_classes
    extra = {"loader_images": images, "loader_half": half, "loader_none": half[2:]}
    for name, content in extra.items():
        DatasetCatalog.register(name, lambda content=content: content)
        MetadataCatalog.get(name).set(thing_classes=classes, json_file="none", vis_format="any")


def config(*train, **entries):
    cfg = get_cfg()
    add_vis_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (32, 40, 48)
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN = (32, 40, 48)
    cfg.INPUT.RANDOM_FLIP = "flip_by_clip"
    cfg.DATASETS.TRAIN = train or ("loader_videos",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    for key, value in entries.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def fingerprint(batch):
    """What was drawn for a batch, and every pixel and mask of it."""
    return [
        (clip["video_id"], tuple(clip["frame_idx"]))
        + tuple(zlib.crc32(image.numpy().tobytes()) for image in clip["image"])
        + tuple(zlib.crc32(frame.gt_masks.tensor.numpy().tobytes()) for frame in clip["instances"])
        for clip in batch
    ]


def batches(cfg, num, start_iter=0):
    return [fingerprint(batch) for batch in islice(iter(build_train_loader(cfg, start_iter=start_iter)), num)]


def test_batches_do_not_depend_on_workers_or_restarts():
    cfg = config()
    expected = batches(cfg, 6)
    assert len({clip for batch in expected for clip in batch}) == 24, "no clip twice"
    assert batches(cfg, 2, start_iter=4) == expected[4:]
    cfg.DATALOADER.NUM_WORKERS = 2
    assert batches(cfg, 6) == expected
    loader = build_train_loader(cfg)
    loader.set_start(3)
    assert [fingerprint(batch) for batch in islice(iter(loader), 2)] == expected[3:5]
    cfg.SEED = 1
    assert batches(cfg, 1) != expected[:1]


def test_two_processes_share_the_batch_of_one(monkeypatch):
    expected = batches(config(), 3)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(batches(config(), 3))
    assert [a + b for a, b in zip(*parts)] == expected


def test_training_process_keeps_its_own_random_numbers():
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    batches(config(), 2)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_seeded_restores_after_an_error():
    state = random.getstate()
    with pytest.raises(ValueError), seeded(5):
        random.random()
        raise ValueError
    assert random.getstate() == state


def test_seeded_holds_for_the_current_gpu(monkeypatch):
    others, current = torch.Generator(), torch.Generator()  # stand in for the generators of two GPUs
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", (others, current))

    def draws(generator: torch.Generator) -> tuple[int, int]:
        """Within seeded, and without it."""
        generator.manual_seed(9)
        with seeded(5):
            within = torch.randint(1 << 30, (1,), generator=generator).item()
        return within, torch.randint(1 << 30, (1,), generator=generator).item()

    fresh = torch.Generator().manual_seed(9)
    first, second = torch.randint(1 << 30, (2,), generator=fresh).tolist()
    expected = torch.randint(1 << 30, (1,), generator=torch.Generator().manual_seed(5)).item()
    assert draws(current) == (expected, first)
    assert draws(others) == (first, second)


def test_epoch_of_videos_and_of_key_frames():
    clips = [clip for batch in batches(config(SOLVER__IMS_PER_BATCH=VIDEOS), 1) for clip in batch]
    assert sorted(clip[0] for clip in clips) == list(range(1, VIDEOS + 1))
    cfg = config(INPUT__SAMPLING_UNIT="key_frame", INPUT__SAMPLING_RULE="reference")
    keys = len(build_train_loader(cfg).dataset.sources[0])
    assert VIDEOS < keys <= VIDEOS * LENGTH
    cfg.SOLVER.IMS_PER_BATCH = keys
    clips = batches(cfg, 1)[0]
    assert len({(clip[0], clip[1][0]) for clip in clips}) == keys, "each key frame once, first in its clip"
    cfg.INPUT.SAMPLING_UNIT = "frame"
    assert len(build_train_loader(cfg).dataset.sources[0]) == VIDEOS * LENGTH


def test_images_become_pseudo_videos_mixed_in_batches():
    cfg = config("loader_images", "loader_videos", DATASETS__DATASET_RATIO=[1.0, 1.0], SOLVER__IMS_PER_BATCH=8)
    drawn = []
    for batch in islice(iter(build_train_loader(cfg)), 6):
        drawn.append([len(set(clip["file_names"])) == 1 and clip["video_len"] != LENGTH for clip in batch])
        for clip in batch:
            assert len(clip["image"]) == len(clip["instances"]) == cfg.INPUT.SAMPLING_FRAME_NUM
    assert any(0 < sum(batch) < 8 for batch in drawn) and 10 < sum(map(sum, drawn)) < 38
    cfg.DATASETS.MIX_WITHIN_BATCH = False
    sampler = build_train_loader(cfg).sampler
    assert all(len({source for source, *_ in batch}) == 1 for batch in islice(iter(sampler), 50))


def test_image_mode_makes_pseudo_videos_of_videos():
    cfg = config(INPUT__PSEUDO__IMAGE_MODE=True)
    (batch,) = islice(iter(build_train_loader(cfg)), 1)
    assert all(len(set(clip["file_names"])) == 1 for clip in batch)


def test_crowded_images_are_left_out():
    counts = [len(image["annotations"]) for image in DatasetCatalog.get("loader_images")]
    limit = min(counts)
    assert limit < max(counts), "the images differ"
    cfg = config("loader_images", INPUT__PSEUDO__MAX_OBJECTS=limit)
    assert len(build_train_loader(cfg).dataset.sources[0]) == counts.count(limit)


def test_filter_and_redraw():
    cfg = config("loader_half", SOLVER__IMS_PER_BATCH=8)
    assert len(build_train_loader(cfg).dataset.sources[0]) == 2, "FILTER_EMPTY_ANNOTATIONS is on"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(build_train_loader(cfg).dataset.sources[0]) == VIDEOS
    assert {clip[0] for clip in batches(cfg, 1)[0]} == set(range(1, VIDEOS + 1))
    (batch,) = islice(iter(build_train_loader(cfg)), 1)
    empty = next(clip for clip in batch if clip["video_id"] > 2)
    assert empty["instances"][0].gt_masks.tensor.shape == (0, *empty["image"][0].shape[1:])
    cfg.INPUT.SAMPLING_REDRAW_EMPTY = True
    for batch in islice(iter(build_train_loader(cfg)), 2):
        assert all(any((f.gt_ids >= 0).any() for f in clip["instances"]) for clip in batch)
    cfg.DATASETS.TRAIN = ("loader_none",)
    with pytest.raises(DataError, match="'loader_none': no object in 100 clips"):
        next(iter(build_train_loader(cfg)))
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    with pytest.raises(DataError, match="'loader_none' has nothing to train on"):
        build_train_loader(cfg)


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_image_is_one_line_from_workers_too(workers):
    record = {**DatasetCatalog.get("loader_videos")[0]}
    record["file_names"] = ["nowhere/a.jpg"] * LENGTH
    name = f"loader_broken_{workers}"
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(thing_classes=["x"], json_file="none")
    with pytest.raises(DataError) as e:
        next(iter(build_train_loader(config(name, DATALOADER__NUM_WORKERS=workers))))
    assert str(e.value).startswith("nowhere/a.jpg: file not found (video 1, frame ") and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "train, entries, message",
    [
        (
            ["loader_video"],
            {},
            r"DATASETS.TRAIN: no data set 'loader_video' is registered \(did you mean 'loader_videos'",
        ),
        (["loader_videos"], {"DATASETS__DATASET_RATIO": [1.0, 2.0]}, "DATASETS.DATASET_RATIO"),
        (["loader_videos"], {"DATASETS__DATASET_RATIO": [0.0]}, "DATASETS.DATASET_RATIO"),
        (["loader_videos"], {"DATALOADER__ASPECT_RATIO_GROUPING": True}, "ASPECT_RATIO_GROUPING"),
        (["loader_videos"], {"DATALOADER__SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}, "only TrainingSampler"),
        (["loader_videos"], {"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH 0"),
        (["loader_videos"], {"INPUT__SAMPLING_UNIT": "second"}, "SAMPLING_UNIT 'second' is unknown"),
    ],
)
def test_contradictions_are_reported(train, entries, message):
    with pytest.raises(ConfigError, match=message):
        build_train_loader(config(*train, **entries))


def test_no_training_set():
    cfg = config()
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        build_train_loader(cfg)


def test_test_loader_loads_what_it_was_asked_for():
    cfg = config(DATASETS__TEST=("loader_half", "loader_videos"), INPUT__MIN_SIZE_TEST=24)
    loaded = [batch for batch in build_test_loader(cfg, "loader_videos")]
    assert [len(batch) for batch in loaded] == [1] * VIDEOS
    assert [batch[0]["video_id"] for batch in loaded] == list(range(1, VIDEOS + 1))
    assert loaded[0][0]["image"][0].shape == (3, 24, 32)
    images = [batch[0] for batch in build_test_loader(cfg, "loader_images")]  # read Detectron2's way
    assert [image["image"].shape for image in images] == [(3, 24, 32)] * len(images) and len(images) == VIDEOS
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST: no data set 'nothing_like_it'.*register_ytvis"):
        build_test_loader(cfg, "nothing_like_it")


class ManyTensors(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return {"image": [torch.zeros(3) for _ in range(50)]}


class Batches:
    def __iter__(self):
        yield from [list(range(16))] * 4


def test_workers_may_send_more_tensors_than_the_shell_allows_files():
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert len(list(ClipLoader(ManyTensors(), Batches(), num_workers=2))) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
