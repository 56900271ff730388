import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from PIL import Image


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def rectangle(h, w, x0, y0, x1, y1):
    mask = np.zeros((h, w), dtype=np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


# ---- images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0] = 255
    # what a camera stores so that the stated operation gives the upright image
    store = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(store(upright)))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(utils.read_image(str(tmp_path / "a.png"), "RGB"), upright)


def test_channel_orders(tmp_path):
    x = np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8)
    file = str(tmp_path / "a.png")
    Image.fromarray(x).save(file)
    np.testing.assert_array_equal(utils.read_image(file), x)
    np.testing.assert_array_equal(utils.read_image(file, "RGB"), x)
    np.testing.assert_array_equal(utils.read_image(file, "BGR"), x[:, :, ::-1])
    grey = utils.read_image(file, "L")
    assert grey.shape == (5, 7, 1)
    np.testing.assert_allclose(grey[:, :, 0], x @ [0.299, 0.587, 0.114], atol=1)
    yuv = utils.read_image(file, "YUV-BT.601")
    np.testing.assert_allclose(yuv[:, :, 0], x @ [0.299, 0.587, 0.114] / 255, atol=1e-3)
    for name in ("RGB", "BGR", "YUV-BT.601"):
        shown = utils.convert_image_to_rgb(utils.read_image(file, name), name)
        assert shown.dtype == np.uint8
        np.testing.assert_allclose(shown.astype(int), x, atol=1)
    np.testing.assert_array_equal(utils.convert_image_to_rgb(grey, "L"), grey.repeat(3, axis=2))
    np.testing.assert_array_equal(utils.convert_image_to_rgb(torch.as_tensor(x), "RGB"), x)


def test_image_size_check():
    x = np.zeros((5, 7, 3), dtype=np.uint8)
    record = {"file_name": "a.png"}
    utils.check_image_size(record, x)
    assert (record["height"], record["width"]) == (5, 7)
    with pytest.raises(utils.SizeMismatchError, match=r"a\.png"):
        utils.check_image_size({**record, "width": 5, "height": 7}, x)
    assert issubclass(utils.SizeMismatchError, ValueError)


# ---- annotations


def test_boxes_are_transformed_and_clipped():
    annotation = {"bbox": [2.0, 3.0, 10.0, 8.0], "bbox_mode": BoxMode.XYWH_ABS}
    moves = [T.HFlipTransform(20), T.ResizeTransform(10, 20, 5, 10)]
    result = utils.transform_instance_annotations(annotation, moves, (5, 10))
    assert result is annotation and result["bbox_mode"] == BoxMode.XYXY_ABS
    np.testing.assert_allclose(result["bbox"], [4, 1.5, 9, 5])  # the lower side 5.5 is cut at 5


def test_polygons_are_transformed():
    annotation = {
        "bbox": [0, 0, 1, 1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": [[1, 2, 5, 2, 5, 6], [0, 0, 2, 0, 2, 2]],
    }
    result = utils.transform_instance_annotations(annotation, T.HFlipTransform(10), (10, 10))
    assert [p.shape for p in result["segmentation"]] == [(6,), (6,)]
    np.testing.assert_allclose(result["segmentation"][0], [9, 2, 5, 2, 5, 6])


def test_rle_becomes_a_bitmap():
    mask = rectangle(10, 20, 3, 2, 9, 7)
    annotation = {"bbox": [3, 2, 9, 7], "bbox_mode": BoxMode.XYXY_ABS, "segmentation": rle(mask)}
    moves = T.TransformList([T.HFlipTransform(20), T.CropTransform(5, 0, 12, 6)])
    result = utils.transform_instance_annotations(annotation, moves, (6, 12))
    np.testing.assert_array_equal(result["segmentation"], mask[:, ::-1][:6, 5:17])


def test_unknown_segmentation_is_refused():
    annotation = {"bbox": [3, 2, 9, 7], "bbox_mode": BoxMode.XYXY_ABS, "segmentation": np.zeros((4, 4))}
    with pytest.raises(ValueError):
        utils.transform_instance_annotations(annotation, T.HFlipTransform(20), (6, 12))


def test_keypoints():
    points = [2.0, 3, 2, 8, 4, 1, 5, 5, 0, 19, 1, 2]  # visible, hidden, not labelled, soon outside
    moved = utils.transform_keypoint_annotations(points, T.CropTransform(0, 0, 10, 10), (10, 10))
    np.testing.assert_allclose(moved, [[2, 3, 2], [8, 4, 1], [0, 0, 0], [0, 0, 0]])
    flip = T.HFlipTransform(20)
    flipped = utils.transform_keypoint_annotations(points, flip, (10, 20), keypoint_hflip_indices=[1, 0, 2, 3])
    np.testing.assert_allclose(flipped, [[12, 4, 1], [18, 3, 2], [0, 0, 0], [1, 1, 2]])
    with pytest.raises(ValueError):
        utils.transform_keypoint_annotations(points, flip, (10, 20))


def test_instances_with_polygons():
    annotations = [
        {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 5, "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "segmentation": [[0, 0, 9, 0, 9, 9]]},
    ]
    target = utils.annotations_to_instances(annotations, (10, 12))
    assert target.image_size == (10, 12)
    assert target.gt_boxes.tensor.tolist() == [[1, 2, 4, 6], [0, 0, 9, 9]]
    assert target.gt_classes.tolist() == [5, 0] and target.gt_classes.dtype == torch.int64
    assert isinstance(target.gt_masks, PolygonMasks) and len(target.gt_masks) == 2


def test_bitmaps_from_every_kind_of_segmentation():
    mask = rectangle(10, 12, 2, 3, 7, 8)
    kinds = [[[2, 3, 7, 3, 7, 8, 2, 8]], rle(mask), mask]
    annotations = [
        {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "segmentation": s} for s in kinds
    ]
    target = utils.annotations_to_instances(annotations, (10, 12), mask_format="bitmask")
    assert isinstance(target.gt_masks, BitMasks) and target.gt_masks.tensor.dtype == torch.bool
    np.testing.assert_array_equal(target.gt_masks.tensor.numpy(), np.stack([mask] * 3) > 0)


def test_polygon_format_refuses_bitmaps():
    annotation = {
        "bbox": [0, 0, 1, 1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": np.zeros((4, 4), dtype=np.uint8),
    }
    with pytest.raises(ValueError):
        utils.annotations_to_instances([annotation], (4, 4), mask_format="polygon")


def test_no_annotations():
    target = utils.annotations_to_instances([], (4, 5))
    assert len(target) == 0 and target.gt_boxes.tensor.shape == (0, 4) and not target.has("gt_masks")
    assert len(utils.filter_empty_instances(target)) == 0


def test_empty_instances_are_dropped():
    masks = np.stack([rectangle(10, 10, 1, 1, 4, 4), np.zeros((10, 10)), rectangle(10, 10, 2, 2, 3, 3)])
    boxes = [[1, 1, 4, 4], [1, 1, 4, 4], [2, 2, 2, 3]]
    annotations = [
        {"bbox": b, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "segmentation": m.astype(np.uint8)}
        for i, (b, m) in enumerate(zip(boxes, masks))
    ]
    target = utils.annotations_to_instances(annotations, (10, 10), "bitmask")
    assert utils.filter_empty_instances(target).gt_classes.tolist() == [0]
    assert utils.filter_empty_instances(target, by_mask=False).gt_classes.tolist() == [0, 1]
    assert utils.filter_empty_instances(target, by_box=False).gt_classes.tolist() == [0, 2]
    assert utils.filter_empty_instances(target, box_threshold=3).gt_classes.tolist() == []
    kept, which = utils.filter_empty_instances(target, return_mask=True)
    assert which.tolist() == [True, False, False] and len(kept) == 1


def test_crop_around_an_instance():
    np.random.seed(0)
    instance = {"bbox": [60, 20, 70, 30], "bbox_mode": BoxMode.XYXY_ABS}
    for _ in range(50):
        crop = utils.gen_crop_transform_with_instance((15, 20), (40, 100), instance)
        assert (crop.h, crop.w) == (15, 20)
        assert crop.x0 <= 65 <= crop.x0 + 20 and crop.y0 <= 25 <= crop.y0 + 15
        assert crop.y0 + 15 <= 40 and crop.x0 + 20 <= 100
    with pytest.raises(AssertionError):
        utils.gen_crop_transform_with_instance((50, 20), (40, 100), instance)
    with pytest.raises(AssertionError):
        utils.gen_crop_transform_with_instance((15, 20), (40, 50), instance)


def test_metadata_consistency():
    names = ["test_utils_a", "test_utils_b"]
    MetadataCatalog.get(names[0]).thing_classes = ["x"]
    with pytest.raises(AttributeError):
        utils.check_metadata_consistency("thing_classes", names)
    MetadataCatalog.get(names[1]).thing_classes = ["y"]
    utils.check_metadata_consistency("thing_classes", names[:1])
    with pytest.raises(ValueError):
        utils.check_metadata_consistency("thing_classes", names)
    for name in names:
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("flip", "expected"), [("horizontal", T.HFlipTransform), ("vertical", T.VFlipTransform), ("none", None)]
)
def test_default_augmentation(flip, expected):
    cfg = get_cfg()
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = flip, (20,), 30
    x = np.zeros((40, 50, 3), dtype=np.uint8)
    train = utils.build_augmentation(cfg, True)
    assert train[0].get_transform(x).new_h == 20
    assert len(train) == (1 if expected is None else 2)
    np.random.seed(0)
    if expected is not None:
        assert {type(train[1].get_transform(x)) for _ in range(20)} == {expected, T.NoOpTransform}
    test = utils.build_augmentation(cfg, False)
    assert len(test) == 1 and test[0].get_transform(x).new_h == 30
