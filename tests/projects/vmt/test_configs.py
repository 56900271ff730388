from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

import projects
from vis_core.config import merge_config
from vis_core.data.builtin import BUILTIN_SPLITS
from vis_core.errors import ConfigError

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "vmt"


@pytest.mark.parametrize("backbone", ["r50", "r101", "swinl"])
@pytest.mark.parametrize("data", ["hq_ytvis", "ytvis19"])
def test_published_configs(data, backbone):
    cfg = merge_config(projects.default_config(), CONFIGS / f"{data}_{backbone}.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "VMT"
    assert all(name in BUILTIN_SPLITS or name in DatasetCatalog for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    assert (cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer") == (backbone == "swinl")
    depth = 101 if backbone == "r101" else 50
    assert depth == cfg.MODEL.RESNETS.DEPTH
    assert cfg.OUTPUT_DIR.endswith(f"{data}_{backbone}")
    first, second = cfg.SOLVER.STEPS
    assert first / cfg.SOLVER.MAX_ITER == pytest.approx(4 / 12) and second / cfg.SOLVER.MAX_ITER == pytest.approx(
        10 / 12
    )
    assert (cfg.INPUT.SAMPLING_RULE, cfg.INPUT.SAMPLING_UNIT, cfg.INPUT.SAMPLING_FRAME_NUM) == (
        "neighbours",
        "frame",
        5,
    )
    assert cfg.INPUT.SAMPLING_REDRAW_EMPTY and cfg.INPUT.RESIZE_BACKEND == "pillow_floor"


@pytest.mark.parametrize(("logits", "offset"), [(1, 0), (2, 1)])
def test_a_class_without_a_logit_is_refused(logits, offset, small_config):
    cfg = small_config("MODEL.VMT.NUM_CLASSES", "2", "MODEL.VMT.NUM_LOGITS", str(logits))
    cfg.MODEL.VMT.CLASS_OFFSET = offset
    message = rf"MODEL.VMT.NUM_LOGITS: {logits}, needs at least {2 + offset} \(NUM_CLASSES 2 \+ CLASS_OFFSET {offset}\)"
    with pytest.raises(ConfigError, match=message):
        build_model(cfg)
    cfg.MODEL.VMT.CLASS_OFFSET = -1
    with pytest.raises(ConfigError, match=r"MODEL\.VMT\.CLASS_OFFSET: -1"):
        build_model(cfg)
