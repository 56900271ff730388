import copy

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from PIL import Image

H, W = 30, 40


@pytest.fixture
def record(tmp_path):
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)).save(tmp_path / "a.png")

    def annotation(x0, y0, x1, y1, category, crowd=0):
        mask = np.zeros((H, W), dtype=np.uint8, order="F")
        mask[y0:y1, x0:x1] = 1
        box = [float(v) for v in (x0 - 1, y0 - 1, x1 + 1, y1 + 1)]  # a pixel wider than the mask
        common = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, "iscrowd": crowd}
        return {**common, "segmentation": mask_util.encode(mask)}

    annotations = [annotation(5, 6, 15, 20, 3), annotation(2, 2, 38, 28, 1, crowd=1), annotation(30, 10, 36, 25, 0)]
    return {"file_name": str(tmp_path / "a.png"), "height": H, "width": W, "image_id": 9, "annotations": annotations}


def mapper(augmentations=(), is_train=True, **kwargs):
    options = {"image_format": "RGB", "use_instance_mask": True, "instance_mask_format": "bitmask", **kwargs}
    return DatasetMapper(is_train, augmentations=list(augmentations), **options)


def test_training_example(record):
    before = copy.deepcopy(record)
    example = mapper()(record)
    assert record == before
    assert set(example) == {"file_name", "height", "width", "image_id", "image", "instances"}
    np.testing.assert_array_equal(example["image"], np.array(Image.open(record["file_name"])).transpose(2, 0, 1))
    assert example["image"].dtype == torch.uint8
    instances = example["instances"]
    assert instances.gt_classes.tolist() == [3, 0]  # the crowd is gone
    assert instances.gt_boxes.tensor.tolist() == [[4, 5, 16, 21], [29, 9, 37, 26]]
    assert isinstance(instances.gt_masks, BitMasks) and instances.gt_masks.tensor.sum((1, 2)).tolist() == [140, 90]


def test_image_and_annotations_move_together(record):
    example = mapper([T.HFlipTransform(W), T.CropTransform(0, 8, W, 10)])(record)
    assert example["image"].shape == (3, 10, W)
    original = np.array(Image.open(record["file_name"]))
    np.testing.assert_array_equal(example["image"], original[8:18, ::-1].transpose(2, 0, 1))
    instances = example["instances"]
    assert instances.image_size == (10, W)
    assert instances.gt_boxes.tensor.tolist() == [[24, 0, 36, 10], [3, 1, 11, 10]]
    assert instances.gt_masks.get_bounding_boxes().tensor.tolist() == [[25, 0, 35, 10], [4, 2, 10, 10]]


def test_what_a_crop_removes_is_dropped(record):
    example = mapper([T.CropTransform(0, 0, 20, H)])(record)
    assert example["instances"].gt_classes.tolist() == [3]


def test_boxes_from_masks(record):
    boxes = mapper(recompute_boxes=True)(record)["instances"].gt_boxes
    assert boxes.tensor.tolist() == [[5, 6, 15, 20], [30, 10, 36, 25]]
    with pytest.raises(AssertionError):
        mapper(recompute_boxes=True, use_instance_mask=False)


def test_without_masks(record):
    assert not mapper(use_instance_mask=False)(record)["instances"].has("gt_masks")


def test_inference_example(record):
    example = mapper([T.Resize((15, 20))], is_train=False)(record)
    assert set(example) == {"file_name", "height", "width", "image_id", "image"}
    assert (example["height"], example["width"]) == (H, W) and example["image"].shape == (3, 15, 20)


def test_record_without_annotations(record):
    del record["annotations"]
    assert "instances" not in mapper()(record)


def test_wrong_size_is_refused(record):
    with pytest.raises(detection_utils.SizeMismatchError):
        mapper()({**record, "height": H + 1})


def test_from_config(record):
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.FORMAT = "BGR"
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (60,), 15
    cfg.INPUT.RANDOM_FLIP = "none"
    train = DatasetMapper(cfg, True)(record)
    assert train["image"].shape == (3, 60, 80)
    test = DatasetMapper(cfg, is_train=False)(record)
    assert test["image"].shape == (3, 15, 20) and "instances" not in test
    rgb = DatasetMapper(cfg, False, image_format="RGB")(record)  # an argument overrides the config
    np.testing.assert_array_equal(rgb["image"], test["image"].flip(0))

    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", [20, 20]
    np.random.seed(0)
    cropped = DatasetMapper(cfg, True)(record)
    assert cropped["image"].shape == (3, 60, 60)
    instances = cropped["instances"]
    assert len(instances) > 0  # and boxes are those of the masks
    np.testing.assert_array_equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
    assert DatasetMapper(cfg, False)(record)["image"].shape == (3, 15, 20)


def test_polygons(record):
    for a in record["annotations"]:
        x0, y0, x1, y1 = a["bbox"]
        a["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    example = mapper([T.HFlipTransform(W)], instance_mask_format="polygon")(record)
    masks = example["instances"].gt_masks
    assert isinstance(masks, PolygonMasks)
    np.testing.assert_allclose(masks.get_bounding_boxes().tensor, example["instances"].gt_boxes.tensor)
