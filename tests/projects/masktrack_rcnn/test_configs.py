import pytest
import torch
from detectron2.modeling import build_model

import projects
from projects.masktrack_rcnn.schedule import schedule
from vis_core.config import merge_config
from vis_core.data import build_train_loader


def config(configs, name, *opts):
    return merge_config(projects.default_config(), configs / name, ["MODEL.DEVICE", "cpu", *opts])


def test_every_config_builds_a_model(masktrack_configs):
    names = sorted(path.name for path in masktrack_configs.glob("*_*.yaml") if not path.name.startswith("base_"))
    assert len(names) >= 9
    for name in names:
        cfg = config(masktrack_configs, name)
        # The published backbones as ResNet-18: what depth changes is tested by the key lists in tests/parity.
        if cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone":
            cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
            cfg.MODEL.RESNETS.NUM_GROUPS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 1, 64
        model = build_model(cfg)
        assert type(model).__name__ == "MaskTrackRCNN"
        assert max(cfg.SOLVER.STEPS, default=0) < cfg.SOLVER.MAX_ITER


@pytest.mark.parametrize("year", ["19", "21"])
@pytest.mark.parametrize(("name", "groups"), [("r50", (50, 1, 64)), ("r101", (101, 1, 64)), ("x101", (101, 64, 4))])
def test_published_settings(masktrack_configs, year, name, groups):
    cfg = config(masktrack_configs, f"ytvis{year}_{name}_12e.yaml")
    resnets = cfg.MODEL.RESNETS
    assert groups == (resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP)
    assert (f"ytvis_20{year}_train",) == cfg.DATASETS.TRAIN and (f"ytvis_20{year}_val",) == cfg.DATASETS.TEST
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 40
    epoch = cfg.SOLVER.CHECKPOINT_PERIOD
    assert 12 * epoch == cfg.SOLVER.MAX_ITER and (8 * epoch, 11 * epoch) == cfg.SOLVER.STEPS


def test_schedule():
    keys = schedule(num_frames=81, batch_size=16)
    assert keys["MAX_ITER"] == 72 and keys["STEPS"] == (48, 66)
    assert keys["BASE_LR"] == 0.0025


def test_clips_of_the_published_configs(masktrack_configs, tmp_path, monkeypatch):
    """Key frame first, one reference frame, both at 360 x 640 at most and mirrored together."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from vis_core.data import register_shapes
    from vis_core.data.shapes import ShapesConfig

    register_shapes("masktrack_clips", ShapesConfig(num_videos=2, length=4, height=90, width=128), tmp_path)
    try:
        cfg = config(masktrack_configs, "ytvis19_r50_12e.yaml", "DATASETS.TRAIN", "('masktrack_clips',)")
        cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
        (clip,) = next(iter(build_train_loader(cfg)))
        assert len(clip["image"]) == 2
        assert all(image.shape == (3, 360, 512) and image.dtype == torch.uint8 for image in clip["image"])
        assert clip["frame_idx"][0] != clip["frame_idx"][1]
        assert (clip["instances"][0].gt_ids >= 0).any()
    finally:
        DatasetCatalog.remove("masktrack_clips")
        MetadataCatalog.remove("masktrack_clips")
