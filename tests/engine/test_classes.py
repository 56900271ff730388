"""The number of classes: which key a method has it in, and which numbers of a data set's classes are refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

import projects
from vis_core.config import merge_config
from vis_core.engine import VideoTrainer
from vis_core.engine.classes import check_num_classes, num_classes_key, warn_of_unnamed_classes
from vis_core.errors import ConfigError

from detectron2.data import MetadataCatalog  # isort: skip  (importable once vis_core is)

OVIS, YTVIS = "ovis_train", "ytvis_2019_train"
NO_TEST_SET = ("DATASETS.TEST", "()")
LOGITS = ("MODEL.VMT.NUM_LOGITS", "25")
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
        projects.default_config(),
        CONFIGS / method / "shapesvis_tiny.yaml",
        ["MODEL.DEVICE", "cpu", key, "25", *NO_TEST_SET, *LOGITS],
    )
    model = VideoTrainer.build_model(cfg)
    assert num_classes_key(cfg, model) == key
    # Their 25 and 40 classes are known without their files.
    monkeypatch.setattr("vis_core.engine.classes.dataset_metadata", MetadataCatalog.get)
    cfg.DATASETS.TRAIN = ("ovis_train",)
    check_num_classes(cfg, model)
    cfg.DATASETS.TRAIN = ("ovis_train", "ytvis_2019_train")
    message = f"{key}: 25, but the data set 'ytvis_2019_train' has 40 classes; set it to 40"
    with pytest.raises(ConfigError, match=message):
        check_num_classes(cfg, model)


@pytest.fixture
def masktrack(monkeypatch):
    """A function: number of classes, training sets, test sets -> a config; and a model with ROI heads."""
    monkeypatch.setattr("vis_core.engine.classes.dataset_metadata", MetadataCatalog.get)

    def config(classes, train, test=()):
        cfg = projects.default_config()
        cfg.MODEL.META_ARCHITECTURE = "MaskTrackRCNN"
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
        return cfg, nn.ModuleDict({"roi_heads": nn.Identity()})

    return config


def test_more_classes_than_the_data_are_refused(masktrack):
    for train, test in (((OVIS,), ()), ((YTVIS,), ("ovis_val",))):
        classes = 80 if test == () else 40
        message = f"MODEL.ROI_HEADS.NUM_CLASSES: {classes}, but the data set '.*' has 25 classes; set it to 25"
        with pytest.raises(ConfigError, match=message):
            check_num_classes(*masktrack(classes, train, test))


def test_sets_that_lack_classes_are_warned_of(masktrack, caplog):
    check_num_classes(*masktrack(40, (OVIS, YTVIS), ("ytvis_2019_val",)))
    assert "40, but the data set 'ovis_train' has 25 classes" in caplog.text
    caplog.clear()
    check_num_classes(*masktrack(25, (OVIS,), ("ytvis_2019_val",)))
    assert "25, but the data set 'ytvis_2019_val' has 40 classes" in caplog.text


def test_predicted_classes_without_a_name_are_warned_of(masktrack, caplog):
    warn_of_unnamed_classes(*masktrack(2, ()), ["a", "b"])
    warn_of_unnamed_classes(*masktrack(2, ()), [])  # shown as numbers, which is said elsewhere
    assert not caplog.text
    warn_of_unnamed_classes(*masktrack(3, ()), ["a", "b"])
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 3, but only 2 classes have names" in caplog.text


PUBLISHED = sorted(p for p in CONFIGS.glob("*/*.yaml") if p.parent.name != "base" and not p.name.startswith("base_"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_has_the_classes_of_its_data(path, monkeypatch, caplog):
    monkeypatch.setattr("vis_core.engine.classes.dataset_metadata", metadata_without_files)
    cfg = merge_config(projects.default_config(), path)
    part = "sem_seg_head" if cfg.MODEL.META_ARCHITECTURE in ("CTVIS", "Mask2Former") else "roi_heads"
    check_num_classes(cfg, nn.ModuleDict({part: nn.Identity()}))
    assert not caplog.text


def metadata_without_files(name: str):
    """Metadata of a built-in data set; that of ShapesVIS is known once its generator ran."""
    if name.startswith("shapesvis"):
        return SimpleNamespace(thing_classes=["a shape"] * 6)
    return MetadataCatalog.get(name)
