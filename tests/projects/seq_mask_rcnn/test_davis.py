"""DAVIS: palette folders in, palette PNGs and J and F out, with the settings of the DAVIS config."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

import projects
from vis_core.config import merge_config
from vis_core.data import build_train_loader, register_davis
from vis_core.data.label_maps import read_label_map, write_label_map
from vis_core.engine import VideoTrainer

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "seq_mask_rcnn"
DATASET = "seq_davis_test"
SMALL = (
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.WEIGHTS", ""),
    ("MODEL.BACKBONE.NAME", "build_small_resnet_fpn_backbone"),
    ("MODEL.BACKBONE.FREEZE_AT", "0"),
    ("MODEL.SMALL_RESNET.WIDTHS", "[16, 24, 32, 40]"),
    ("MODEL.FPN.OUT_CHANNELS", "16"),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    ("MODEL.ROI_MASK_HEAD.CONV_DIM", "16"),
    ("MODEL.PROP_HEAD.KEY_DIM", "8"),
    ("MODEL.PROP_HEAD.VALUE_DIM", "16"),
    ("INPUT.MIN_SIZE_TRAIN", "(48,)"),
    ("INPUT.MIN_SIZE_TEST", "48"),
    ("DATASETS.TRAIN", f"('{DATASET}',)"),
    ("DATASETS.TEST", f"('{DATASET}',)"),
    ("DATALOADER.NUM_WORKERS", "0"),
)


def config(name, *opts):
    return merge_config(projects.default_config(), CONFIGS / name, [part for pair in SMALL for part in pair] + [*opts])


@pytest.fixture
def davis(tmp_path):
    rng = np.random.default_rng(0)
    for video in ("a", "b"):
        for t in range(5):
            labels = np.zeros((48, 80), np.uint8)
            labels[10:25, 10 + 3 * t : 30 + 3 * t] = 1
            labels[30:44, 50 - 3 * t : 60 - 3 * t] = 2
            write_label_map(tmp_path / "masks" / video / f"{t:05d}.png", labels)
            image = (labels[..., None] * np.array([90, 50, 120]) + rng.integers(0, 60, (48, 80, 3))).astype(np.uint8)
            (tmp_path / "frames" / video).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "frames" / video / f"{t:05d}.jpg")
    (tmp_path / "videos.txt").write_text("a\nb\n")
    register_davis(DATASET, tmp_path / "videos.txt", tmp_path / "frames", tmp_path / "masks")
    yield
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.pop(DATASET)


def test_settings_of_the_released_models():
    for name, weights in (("r101", "seq_mask_rcnn_r101_davis.pth"), ("x101", "seq_mask_rcnn_x101_davis.pth")):
        cfg = merge_config(projects.default_config(), CONFIGS / f"davis_uvos_{name}.yaml")
        method = cfg.MODEL.SEQ_MASK_RCNN
        assert cfg.MODEL.WEIGHTS.endswith(weights) and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
        assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (480, 854)
        assert (method.KEY_NUM, method.MEM_STEP, method.MEM_NUM) == (8, 0, 10)
        reduce = method.REDUCE
        assert (reduce.TYPE, reduce.SIGMA, reduce.SCORE_THRESH, reduce.MAX_SEQ) == ("seq_soft_nms", 0.5, 0.001, 20)
        assert method.OUTPUT_SCORE_THRESH == 0 and not method.CATE_REDUCE.ENABLED
        assert (101, 64 if name == "x101" else 1) == (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NUM_GROUPS)


def test_evaluation_from_end_to_end(davis, tmp_path):
    cfg = config(
        "davis_uvos_r101.yaml", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "OUTPUT_DIR", str(tmp_path / "out")
    )
    torch.manual_seed(0)
    scores = VideoTrainer.test(cfg, build_model(cfg).eval())["davis_uvos"]
    assert 0 <= scores["J&F"] <= 100 and scores["J&F"] == (scores["J-Mean"] + scores["F-Mean"]) / 2
    for video in ("a", "b"):
        maps = [read_label_map(path) for path in sorted((tmp_path / "out/inference/davis" / video).glob("*.png"))]
        assert [labels.shape for labels in maps] == [(48, 80)] * 5
        assert max(labels.max() for labels in maps) <= 20


def test_clips_of_the_finetune_stage(davis):
    cfg = config("davis_uvos_r101_finetune.yaml", "SOLVER.IMS_PER_BATCH", "4")
    for clip in next(iter(build_train_loader(cfg))):
        target, reference = clip["instances"]
        assert target.gt_classes.tolist() == reference.gt_classes.tolist() == [0, 0]
        assert target.gt_ids.tolist() == reference.gt_ids.tolist() == [1, 2]
        assert clip["frame_idx"][0] != clip["frame_idx"][1]
