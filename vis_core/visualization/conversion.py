"""Results in the forms that other tools draw: Detectron2's Visualizer, and ``supervision``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances

from vis_core.errors import ConfigError
from vis_core.tube import Tube, decode_mask

if TYPE_CHECKING:
    import supervision


def frame_instances(tubes: Sequence[Tube], frame: int, size: tuple[int, int]) -> Instances:
    """What tubes show in one frame, in the form of a stream's results: for ``Visualizer.draw_instance_predictions``.

    Args:
        tubes: of one video; without a track id a tube's place in the list counts.
        frame: index from 0.
        size: (H, W) of the video.

    Returns:
        Instances with pred_boxes, scores (the tube's), pred_classes, pred_masks (N, H, W) bool and pred_ids (N,) int64,
        of the tubes that can be seen in the frame.
    """
    seen = [(i, tube) for i, tube in enumerate(tubes) if tube.segmentations[frame]]
    masks = np.zeros((len(seen), *size), bool)
    for mask, (_, tube) in zip(masks, seen):
        mask[:] = decode_mask(tube.segmentations[frame])
    pred_masks = torch.from_numpy(masks)
    return Instances(
        size,
        pred_boxes=BitMasks(pred_masks).get_bounding_boxes(),
        scores=torch.tensor([tube.score for _, tube in seen], dtype=torch.float32),
        pred_classes=torch.tensor([tube.category for _, tube in seen], dtype=torch.int64),
        pred_masks=pred_masks,
        pred_ids=torch.tensor([i if tube.track_id is None else tube.track_id for i, tube in seen], dtype=torch.int64),
    )


def to_supervision(instances: Instances, class_names: Sequence[str] = ()) -> supervision.Detections:
    """One frame's results as ``supervision.Detections``: boxes, masks, scores, classes and track ids.

    Args:
        instances: of ``VideoPredictor.stream`` or :func:`frame_instances`.
        class_names: by class; given, they become ``data["class_name"]``, which supervision's label annotator reads.

    Raises ConfigError if supervision, which this project does not need otherwise, is not installed.
    """
    try:
        import supervision
    except ImportError as e:
        raise ConfigError("supervision is not installed: pip install supervision") from e
    classes = instances.pred_classes.cpu().numpy().astype(int)
    names = {"class_name": np.array([class_names[c] for c in classes], dtype=str)} if class_names else {}
    return supervision.Detections(
        xyxy=instances.pred_boxes.tensor.cpu().numpy().astype(np.float32),
        mask=instances.pred_masks.cpu().numpy().astype(bool),
        confidence=instances.scores.cpu().numpy().astype(np.float32),
        class_id=classes,
        tracker_id=instances.pred_ids.cpu().numpy().astype(int),
        data=names,
    )
