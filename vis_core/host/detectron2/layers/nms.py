"""Non-maximum suppression."""

from torch import Tensor
from torchvision.ops import batched_nms as _batched_nms
from torchvision.ops import nms

__all__ = ["batched_nms", "nms"]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes kept when each group is suppressed on its own, by descending score.

    Args:
        boxes: (N, 4) x0, y0, x1, y1; half precision is widened, since coordinates overflow it.
        scores: (N,).
        idxs: (N,) integers: the group (class, feature level) of each box.
    """
    assert boxes.shape[-1] == 4, f"boxes must be (N, 4), got {tuple(boxes.shape)}"
    return _batched_nms(boxes.float(), scores, idxs, iou_threshold)
