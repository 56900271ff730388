import numpy as np
import pytest
import torch

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.tracking import mask_nms, pairwise_mask_iou


def plain_nms(masks, max_iou):
    """Pair by pair, as one would write it down, in float32."""
    kept = []
    for i in range(len(masks)):
        ious = [((masks[i] & masks[k]).sum() + 1e-6) / ((masks[i] | masks[k]).sum() + 1e-6) for k in kept]
        if all(iou <= max_iou for iou in ious):
            kept.append(i)
    return kept


def random_masks(seed, n, size=(24, 32)):
    """Rectangles, some alike, some empty."""
    rs = np.random.RandomState(seed)
    masks = torch.zeros(n, *size, dtype=torch.bool)
    for mask in masks:
        y, x = rs.randint(0, 6, 2) * 3
        h, w = rs.randint(0, 5, 2) * 3
        mask[y : y + h, x : x + w] = True
    return masks


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.6, 1.0])
def test_as_the_plain_loop(seed, max_iou):
    masks = random_masks(seed, 40)
    assert mask_nms(masks, max_iou).tolist() == plain_nms(masks, max_iou)


def test_a_suppressed_mask_suppresses_nothing():
    masks = torch.zeros(3, 1, 10, dtype=torch.bool)
    masks[0, 0, 0:6], masks[1, 0, 2:8], masks[2, 0, 4:10] = True, True, True
    # 0 and 1 overlap by 4 / 8, as do 1 and 2; 0 and 2 only by 2 / 10.
    assert mask_nms(masks, 0.4).tolist() == [0, 2]


def test_empty_masks_are_equal():
    assert pairwise_mask_iou(torch.zeros(2, 4, 4, dtype=torch.bool)).eq(1).all()
    assert mask_nms(torch.zeros(3, 4, 4, dtype=torch.bool), 0.6).tolist() == [0]


def test_no_masks():
    assert mask_nms(torch.zeros(0, 4, 4, dtype=torch.bool), 0.6).tolist() == []
