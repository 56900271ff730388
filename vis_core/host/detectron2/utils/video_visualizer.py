"""Drawing predictions over the frames of a video, with the same colour for the same object."""

from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances

from .colormap import random_color, random_colors
from .visualizer import ColorMode, VisImage, Visualizer, _create_text_labels

__all__ = ["VideoVisualizer"]

# an object of the last frames is taken for the same one above this IoU
_BOX_IOU = 0.6
_MASK_IOU = 0.5
# frames for which an object that is not seen keeps its colour
_LIFETIME = 8
_MAX_NUM_INSTANCES = 74


@dataclass
class _DetectedInstance:
    """An object of the current or a recent frame."""

    label: int | None
    box: np.ndarray | None  # (4,) x, y, w, h
    mask_rle: dict | None
    color: np.ndarray | None = None
    frames_left: int = _LIFETIME


def _pairwise_iou(new: list[_DetectedInstance], old: list[_DetectedInstance]) -> tuple[np.ndarray, float]:
    """IoU of masks, of boxes where masks are missing, (new, old), 0 for different classes; and its threshold."""
    both = new + old
    if all(x.mask_rle is not None for x in both):
        threshold = _MASK_IOU
        iou = mask_util.iou([x.mask_rle for x in new], [x.mask_rle for x in old], [0] * len(old))
    else:
        threshold = _BOX_IOU
        iou = mask_util.iou(np.stack([x.box for x in new]), np.stack([x.box for x in old]), [0] * len(old))
    same_label = np.array([[a.label == b.label for b in old] for a in new])
    return np.where(same_label, iou, 0.0), threshold


class VideoVisualizer:
    """Draws one frame after the other.

    Colours follow the objects: by field ``ID`` where the predictions have it, else by overlap with recent frames. A
    field ``COLOR`` overrules both.

    Args:
        metadata: names and colours of the dataset's classes; ``max_num_instances`` is the number of different colours
            for objects with ids (default and most: 74).
        instance_mode: IMAGE or IMAGE_BW.
    """

    def __init__(self, metadata: Metadata | None, instance_mode: ColorMode = ColorMode.IMAGE):
        assert instance_mode in (ColorMode.IMAGE, ColorMode.IMAGE_BW), f"{instance_mode} is for single images only"
        self.metadata = Metadata() if metadata is None else metadata
        self._instance_mode = instance_mode
        self._recent: list[_DetectedInstance] = []
        self._pool = random_colors(self.metadata.get("max_num_instances", _MAX_NUM_INSTANCES), rgb=True, maximum=1)
        self._color_of_id: dict[int, int] = {}  # id -> index into the pool, least recently seen first

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Instances) -> VisImage:
        """Draw what was found in the next frame.

        Args:
            frame: (H, W, 3) RGB in [0, 255].
            predictions: on the CPU, with any of ``pred_boxes``, ``pred_classes``, ``scores``, ``pred_masks`` (N, H, W),
                ``pred_keypoints``, ``ID`` and ``COLOR``.
        """
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        if len(predictions) == 0:
            self._assign_by_overlap([])
            return visualizer.output
        boxes = predictions.pred_boxes.tensor.numpy() if predictions.has("pred_boxes") else None
        scores = predictions.scores.tolist() if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        keypoints = predictions.pred_keypoints if predictions.has("pred_keypoints") else None
        masks = visualizer._convert_masks(predictions.pred_masks) if predictions.has("pred_masks") else None

        if predictions.has("COLOR"):
            colors = list(predictions.COLOR)
        elif predictions.has("ID"):
            colors = self._assign_by_id([int(i) for i in predictions.ID])
        elif boxes is None and masks is None:
            colors = None
        else:
            colors = self._assign_by_overlap(_detected(len(predictions), classes, boxes, masks))
        alpha = 0.5
        if self._instance_mode == ColorMode.IMAGE_BW:
            visualizer._grey_out(masks)
            alpha = 0.3
        return visualizer.overlay_instances(
            boxes=boxes if masks is None else None,
            labels=_create_text_labels(classes, scores, self.metadata.get("thing_classes")),
            masks=masks,
            keypoints=keypoints,
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_sem_seg(self, frame: np.ndarray, sem_seg, area_threshold: int | None = None) -> VisImage:
        """Draw the semantic segmentation of a frame, (H, W) class ids; see :meth:`Visualizer.draw_sem_seg`."""
        return Visualizer(frame, self.metadata).draw_sem_seg(sem_seg, area_threshold=area_threshold)

    def _assign_by_overlap(self, new: list[_DetectedInstance]) -> list[np.ndarray]:
        """Colours for the objects of this frame: those of recent objects that they overlap most, else random ones."""
        old = self._recent
        free = [True] * len(old)
        if new and old:
            iou, threshold = _pairwise_iou(new, old)
            for flat_index in np.argsort(-iou, axis=None):  # best pairs first
                i, j = np.unravel_index(flat_index, iou.shape)
                if iou[i, j] <= threshold:
                    break
                if new[i].color is None and free[j]:
                    new[i].color, free[j] = old[j].color, False
        for instance in new:
            if instance.color is None:
                instance.color = random_color(rgb=True, maximum=1)
        unseen = [instance for instance, is_free in zip(old, free) if is_free]
        for instance in unseen:
            instance.frames_left -= 1
        self._recent = new + [instance for instance in unseen if instance.frames_left > 0]
        return [instance.color for instance in new]

    def _assign_by_id(self, ids: list[int]) -> list[np.ndarray]:
        """Colours by id. When all are in use, the id that was not seen for the longest time gives up its colour."""
        for i in ids:
            if i in self._color_of_id:  # seen again: to the end of the queue
                self._color_of_id[i] = self._color_of_id.pop(i)
        colors = []
        for i in ids:
            if i not in self._color_of_id:
                full = len(self._color_of_id) == len(self._pool)
                oldest = next(iter(self._color_of_id), None)
                self._color_of_id[i] = self._color_of_id.pop(oldest) if full else len(self._color_of_id)
            colors.append(self._pool[self._color_of_id[i]])
        return colors


def _detected(count: int, classes, boxes, masks) -> list[_DetectedInstance]:
    result = []
    for i in range(count):
        box = None if boxes is None else np.array([*boxes[i, :2], *(boxes[i, 2:] - boxes[i, :2])], dtype=np.float64)
        rle = None if masks is None else mask_util.encode(np.asfortranarray(masks[i].mask))
        result.append(_DetectedInstance(None if classes is None else classes[i], box, rle))
    return result
