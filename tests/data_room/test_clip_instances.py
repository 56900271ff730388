"""Aligned rows of a clip's objects."""

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from fvcore.transforms.transform import NoOpTransform

from vis_core.data.clip_instances import clip_instances, picture_area, transformed_mask
from vis_core.errors import ConfigError

H, W, K = 20, 30, 7


def obj(track, box, category=2, polygon=False, crowd=0):
    """A rectangle [x0, y0, x1, y1], stored as run lengths or polygon."""
    x0, y0, x1, y1 = box
    if polygon:
        mask = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    else:
        pixels = np.zeros((H, W), np.uint8, order="F")
        pixels[y0:y1, x0:x1] = 1
        mask = coco_mask.encode(pixels)
    return {
        "id": track,
        "category_id": category,
        "iscrowd": crowd,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": mask,
    }


def rows(frames, transform=None, size=(H, W), **options):
    n = len(frames)
    return clip_instances(frames, [transform or NoOpTransform()] * n, (H, W), [size] * n, K, **options)


def test_rows_are_tracks():
    first, second = rows([[obj(8, (1, 2, 5, 9)), obj(3, (10, 4, 20, 8), polygon=True)], [obj(5, (0, 0, 4, 4), 1)]])
    assert first.gt_ids.tolist() == [8, 3, -1] and second.gt_ids.tolist() == [-1, -1, 5]
    assert first.gt_classes.tolist() == [2, 2, K] and second.gt_classes.tolist() == [K, K, 1]
    assert first.gt_boxes.tensor.tolist() == [[1, 2, 5, 9], [10, 4, 20, 8], [0, 0, 0, 0]]
    assert first.gt_masks.tensor.shape == (3, H, W) and first.gt_masks.tensor.sum(dim=(1, 2)).tolist() == [28, 40, 0]
    assert str(first.gt_ids.dtype) == str(first.gt_classes.dtype) == "torch.int64"
    assert first.image_size == (H, W)


def test_crowd_is_left_out_altogether():
    (frame,) = rows([[obj(1, (1, 1, 3, 3), crowd=1), obj(2, (1, 1, 3, 3))]])
    assert frame.gt_ids.tolist() == [2]


def test_empty_clip():
    for frame in rows([[], []]):
        assert frame.gt_masks.tensor.shape == (0, H, W) and frame.gt_boxes.tensor.shape == (0, 4) and len(frame) == 0


@pytest.mark.parametrize("box_source", ["mask", "annotation"])
@pytest.mark.parametrize("polygon", [False, True])
def test_what_a_crop_cut_off_is_not_visible(box_source, polygon):
    crop = T.CropTransform(10, 5, 12, 8)
    frames = [[obj(1, (0, 0, 9, 4), polygon=polygon), obj(2, (8, 6, 15, 18), polygon=polygon)]]
    (frame,) = rows(frames, crop, (8, 12), box_source=box_source)
    assert frame.gt_ids.tolist() == [-1, 2]
    assert frame.gt_classes.tolist() == [2, 2], "the class of a row with annotation stays"
    assert frame.gt_boxes.tensor[1].tolist() == [0, 1, 5, 8]
    assert frame.gt_masks.tensor[1].sum() == 5 * 7 and not frame.gt_masks.tensor[0].any()


def test_boxes_of_annotations_are_transformed_not_recomputed():
    loose = obj(1, (2, 2, 8, 6))
    loose["bbox"] = [0, 0, 10, 8]
    resize = T.ResizeTransform(H, W, 2 * H, 2 * W)
    (from_mask,) = rows([[loose]], resize, (2 * H, 2 * W))
    (from_box,) = rows([[loose]], resize, (2 * H, 2 * W), box_source="annotation")
    assert from_mask.gt_boxes.tensor.tolist() == [[4, 4, 16, 12]]
    assert from_box.gt_boxes.tensor.tolist() == [[0, 0, 20, 16]]
    with pytest.raises(ConfigError, match=r"INPUT.GT_BOXES 'guess' is unknown"):
        rows([[loose]], box_source="guess")


def test_polygons_far_outside_draw_nothing_and_crossing_ones_are_clipped():
    stream = np.random.RandomState(0)
    for _ in range(200):
        corners = stream.uniform(-60, 90, (4, 2)).ravel().tolist()
        clipped = transformed_mask([corners], NoOpTransform(), np.ones((H, W), np.uint8))
        assert clipped.shape == (H, W)
        whole = coco_mask.decode(coco_mask.frPyObjects([np.add(corners, 100).tolist()], 300, 300))[..., 0]
        # drawing snaps to a fifth of a pixel, from the canvas' edge: lines may differ by a pixel, areas may not
        outline = cv2.morphologyEx(whole, cv2.MORPH_GRADIENT, np.ones((3, 3)))
        window = slice(100, 100 + H), slice(100, 100 + W)
        assert not ((clipped != whole[window]) & ~outline[window] & 1).any()


def test_polygons_end_where_a_crop_left_no_picture():
    """After crop and rotation a polygon's mask is that of the drawn mask, not what its corners would cover."""
    steps = T.TransformList([T.CropTransform(10, 5, 12, 10), T.RotationTransform(10, 12, 15, expand=False)])
    polygon, runs = obj(1, (4, 2, 26, 9), polygon=True), obj(1, (4, 2, 26, 9))
    picture = picture_area(steps, (H, W))
    masks = [transformed_mask(o["segmentation"], steps, picture) for o in (polygon, runs)]
    outline = cv2.morphologyEx(masks[1], cv2.MORPH_GRADIENT, np.ones((3, 3)))
    assert not ((masks[0] != masks[1]) & (outline == 0)).any()
    assert not picture.all() and not masks[0][picture == 0].any()
