"""The configs, from training to evaluation, and the files they start from."""

import itertools
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

import projects
from vis_core.checkpoint import VideoCheckpointer
from vis_core.config import merge_config
from vis_core.data import register_coco_video, register_shapes
from vis_core.data.augmentation import build_clip_augmentation
from vis_core.data.builtin import BUILTIN_SPLITS
from vis_core.data.shapes import ShapesConfig
from vis_core.engine import VideoTrainer
from vis_core.errors import CheckpointError

FOLDER = Path(projects.__file__).resolve().parents[1] / "configs" / "ctvis"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("base_"))
CLASSES = {"coco": 80, "ovis": 25, "shapesvis": 6, "ytvis19": 40, "ytvis21": 40, "ytvis22": 40}
RUN = {
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": "2",
    "SOLVER.STEPS": "()",
    "SOLVER.AMP.PRECISION": "bfloat16",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.EVAL_PERIOD": "0",
    "SEED": "1",
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config(path):
    cfg = merge_config(projects.default_config(), path, ["MODEL.DEVICE", "meta"])
    num_classes, output_dir = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.OUTPUT_DIR
    assert num_classes == CLASSES[path.stem.split("_")[0]]
    assert output_dir == f"output/ctvis/{path.stem}"
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert name in DatasetCatalog.list()
        if name in BUILTIN_SPLITS:
            assert len(BUILTIN_SPLITS[name].categories.names) == num_classes
    assert len(cfg.DATASETS.DATASET_RATIO) in (0, len(cfg.DATASETS.TRAIN))
    with torch.device("meta"):
        build_model(cfg)


def test_a_coco_file_starts_a_video_model(tiny_config, tmp_path, caplog):
    """As Mask2Former's model zoo has it: a pickle of arrays with other classes and no embedding."""
    torch.manual_seed(0)
    coco = build_model(tiny_config("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "80"))
    arrays = {key: value.numpy() for key, value in coco.state_dict().items() if "reid_embed" not in key}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "third_party"}))
    model = build_model(tiny_config())
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        VideoCheckpointer(model).load(str(path))
    kept = {key for key, value in model.state_dict().items() if key not in arrays or value.shape != arrays[key].shape}
    predictor = "sem_seg_head.predictor."
    assert kept == {f"{predictor}class_embed.weight", f"{predictor}class_embed.bias", "criterion.empty_weight"} | {
        f"{predictor}reid_embed.layers.{i}.{name}" for i in range(3) for name in ("weight", "bias")
    }
    for key, value in model.state_dict().items():
        assert value.equal(fresh[key] if key in kept else torch.from_numpy(arrays[key])), key
    with pytest.raises(CheckpointError, match=r"does not fit CTVIS.*6 of \d+ tensors missing.*3 of another shape"):
        VideoCheckpointer(build_model(tiny_config()), require_all=True).load(str(path))


def test_train_and_evaluate_on_videos(tiny_config, tmp_path):
    name = "ctvis_test_shapes"
    register_shapes(name, ShapesConfig(num_videos=2, length=4, height=64, width=96), tmp_path)
    data = {"DATASETS.TRAIN": f"('{name}',)", "DATASETS.TEST": f"('{name}',)", "OUTPUT_DIR": str(tmp_path / "out")}
    sizes = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": "6", "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": "64"}
    cfg = tiny_config(*itertools.chain(*{**RUN, **data, **sizes}.items()))
    trainer = VideoTrainer(cfg)
    trainer.train()
    results = VideoTrainer.test(cfg, trainer.model)
    assert 0 <= results["segm"]["AP"] <= 100
    entries = json.loads((tmp_path / "out" / "inference" / "results.json").read_text())
    assert entries and {len(entry["segmentations"]) for entry in entries} == {4}


@pytest.mark.parametrize("name", ["coco_r50", "coco_swinl", "coco_swint"])
def test_pretraining_scales_crops_and_flips_only(name):
    cfg = merge_config(projects.default_config(), FOLDER / f"{name}.yaml")
    chain = build_clip_augmentation(cfg, pseudo=True)
    kinds = [type(getattr(step, "augmentation", step)).__name__ for step in chain.augmentations]
    assert kinds == ["FlipByClip", "ResizeScale", "FixedSizeCrop"]


def test_pretrain_and_evaluate_on_images(tiny_config, tmp_path):
    name = "ctvis_test_coco"
    height, width = 48, 64
    images, annotations = [], []
    for i in range(3):
        picture, mask = np.full((height, width, 3), 40 * i, np.uint8), np.zeros((height, width), np.uint8, order="F")
        picture[10:30, 5 : 25 + i], mask[10:30, 5 : 25 + i] = 220, 1
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        rle = coco_mask.encode(mask)
        box = coco_mask.toBbox(rle).tolist()
        rle["counts"] = rle["counts"].decode()
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1 + i % 3, "iscrowd": 0, "bbox": box, "area": int(mask.sum())}
            | {"segmentation": rle}
        )
    categories = [{"id": k, "name": f"class {k}"} for k in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    register_coco_video(name, tmp_path / "coco.json", tmp_path)
    data = {"DATASETS.TRAIN": f"('{name}',)", "DATASETS.TEST": f"('{name}',)", "OUTPUT_DIR": str(tmp_path / "out")}
    sizes = {"INPUT.LSJ_AUG.IMAGE_SIZE": "64", "INPUT.MIN_SIZE_TEST": "48", "MODEL.RESNETS.NORM": "BN"}
    network = {"MODEL.BACKBONE.NAME": "build_small_resnet_backbone", "MODEL.MASK_FORMER.NHEADS": "4"}
    cfg = tiny_config(*itertools.chain(*{**RUN, **data, **sizes, **network}.items()), file="coco_r50.yaml")
    trainer = VideoTrainer(cfg)
    trainer.train()
    assert set(trainer.storage.latest()) >= {"loss_ce", "loss_mask_1", "loss_dice_0"}
    MetadataCatalog.get(name).evaluator_type = "coco"
    results = VideoTrainer.test(cfg, trainer.model)
    assert set(results) >= {"segm"}
