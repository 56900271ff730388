"""The number of classes: which key a method has it in, and that a data set with more is refused."""

from pathlib import Path

import pytest

import projects
from vis_core.config import merge_config
from vis_core.engine import VideoTrainer
from vis_core.engine.classes import check_num_classes, num_classes_key
from vis_core.errors import ConfigError

from detectron2.data import MetadataCatalog  # isort: skip  (importable once vis_core is)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("masktrack_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("seq_mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("ctvis", "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
        ("vmt", "MODEL.VMT.NUM_CLASSES"),
    ],
)
def test_every_method(method, key, monkeypatch):
    cfg = merge_config(
        projects.default_config(), CONFIGS / method / "shapesvis_tiny.yaml", ["MODEL.DEVICE", "cpu", key, "34"]
    )
    model = VideoTrainer.build_model(cfg)
    assert num_classes_key(cfg, model) == key
    # Their 25 and 40 classes are known without their files.
    monkeypatch.setattr("vis_core.engine.classes.dataset_metadata", MetadataCatalog.get)
    cfg.DATASETS.TRAIN = ("ovis_train",)
    check_num_classes(cfg, model)
    cfg.DATASETS.TRAIN = ("ovis_train", "ytvis_2019_train")
    message = f"{key}: 34, but the data set 'ytvis_2019_train' has 40 classes; set it to 40"
    with pytest.raises(ConfigError, match=message):
        check_num_classes(cfg, model)
