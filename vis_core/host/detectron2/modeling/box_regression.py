"""The box parametrisation of R-CNN (Girshick et al., CVPR 2014, appendix C) and losses on it."""

import math

import torch
from detectron2.layers import ciou_loss, diou_loss
from fvcore.nn import giou_loss, smooth_l1_loss

_IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


class Box2BoxTransform:
    """Encodes a box relative to another one as (dx, dy, dw, dh).

    With centre (x, y) and size (w, h): dx = wx (x_t - x_s) / w_s, dy alike, dw = ww log(w_t / w_s), dh alike.

    Args:
        weights: (wx, wy, ww, wh).
        scale_clamp: upper bound of dw / ww and dh / wh when decoding, so that exp() stays finite.
    """

    def __init__(self, weights: tuple[float, float, float, float], scale_clamp: float = math.log(1000.0 / 16)):
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) boxes and (N, 4) targets, x0 y0 x1 y1 -> (N, 4) deltas. Sources must have a positive width."""
        src_x, src_y, src_w, src_h = _center_and_size(src_boxes)
        target_x, target_y, target_w, target_h = _center_and_size(target_boxes)
        assert bool((src_w > 0).all()), "source boxes must have a positive width"
        wx, wy, ww, wh = self.weights
        dx = wx * (target_x - src_x) / src_w
        dy = wy * (target_y - src_y) / src_h
        dw = ww * torch.log(target_w / src_w)
        dh = wh * torch.log(target_h / src_h)
        return torch.stack([dx, dy, dw, dh], dim=-1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4k) deltas, k encoded boxes for each of the (N, 4) boxes -> (N, 4k) boxes, float32."""
        dx, dy, dw, dh = deltas.float().unflatten(1, (-1, 4)).unbind(-1)  # each (N, k)
        x, y, w, h = _center_and_size(boxes.float()[:, None])  # each (N, 1)
        wx, wy, ww, wh = self.weights
        new_x = dx / wx * w + x
        new_y = dy / wy * h + y
        half_w = 0.5 * (torch.exp((dw / ww).clamp(max=self.scale_clamp)) * w)
        half_h = 0.5 * (torch.exp((dh / wh).clamp(max=self.scale_clamp)) * h)
        corners = torch.stack([new_x - half_w, new_y - half_h, new_x + half_w, new_y + half_h], dim=-1)
        return corners.flatten(1)  # (N, k, 4) -> (N, 4k)


def _center_and_size(boxes: torch.Tensor):
    """(..., 4) boxes -> centre x, centre y, width, height, each (...)."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    width, height = x1 - x0, y1 - y0
    return x0 + 0.5 * width, y0 + 0.5 * height, width, height


def box_regression_loss(
    pred_deltas: torch.Tensor,
    src_boxes: torch.Tensor,
    gt_boxes: torch.Tensor,
    box2box_transform: Box2BoxTransform,
    loss_type: str,
    smooth_l1_beta: float,
) -> torch.Tensor:
    """Sum of a loss over (P, 4) predicted deltas of (P, 4) boxes that should become (P, 4) ground-truth boxes.

    ``loss_type`` is ``"smooth_l1"``, on deltas (a beta of 0 gives L1), or one of ``"giou"`` (Rezatofighi et al., CVPR
    2019), ``"diou"`` and ``"ciou"`` (Zheng et al., AAAI 2020), on decoded boxes. Raises ValueError for any other.
    """
    if loss_type == "smooth_l1":
        targets = box2box_transform.get_deltas(src_boxes, gt_boxes)
        return smooth_l1_loss(pred_deltas, targets, beta=smooth_l1_beta, reduction="sum")
    if loss_type not in _IOU_LOSSES:
        raise ValueError(f"box regression loss {loss_type!r} is none of smooth_l1, {', '.join(_IOU_LOSSES)}")
    pred_boxes = box2box_transform.apply_deltas(pred_deltas, src_boxes)
    return _IOU_LOSSES[loss_type](pred_boxes, gt_boxes, reduction="sum")
