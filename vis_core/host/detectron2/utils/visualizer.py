"""Drawing predictions and annotations over an image.

Images are (H, W, 3) RGB; coordinates are pixels of the unscaled image; colours are whatever matplotlib takes.
"""

from enum import Enum, unique

import cv2
import matplotlib.colors as mplc
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from .canvas import Canvas, lighter
from .colormap import colormap, random_color
from .generic_mask import GenericMask
from .vis_image import VisImage

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer"]

# objects below this area, in output pixels, get their label beside them and not on them
_SMALL_OBJECT_AREA = 1000
_KEYPOINT_THRESHOLD = 0.05


@unique
class ColorMode(Enum):
    """How instances are coloured."""

    IMAGE = 0
    """A colour per instance, chosen at random."""
    SEGMENTATION = 1
    """Instances of a category have similar colours, those of ``metadata.thing_colors``."""
    IMAGE_BW = 2
    """As IMAGE, with grey where there is no mask."""


def _create_text_labels(classes, scores, class_names, is_crowd=None) -> list[str] | None:
    """Labels such as "cat 87%": name (or number) of the class, score, "|crowd"; None if there is nothing to say.

    Args:
        classes: list of int, or None; scores: list of float, or None; is_crowd: list of bool, or None.
        class_names: names by class, or None.
    """
    if classes is None and scores is None:
        return None
    labels = [""] * len(scores if classes is None else classes)
    if classes is not None:
        labels = [class_names[c] if class_names else str(c) for c in classes]
    if scores is not None:
        labels = [f"{label} {score * 100:.0f}%".strip() for label, score in zip(labels, scores)]
    if is_crowd is not None:
        labels = [f"{label}|crowd" if crowd else label for label, crowd in zip(labels, is_crowd)]
    return labels


def _jittered(color) -> tuple[float, float, float]:
    """A colour near ``color`` (RGB in [0, 1]), to tell instances of a category apart."""
    direction = np.random.standard_normal(3)
    return tuple(np.clip(np.asarray(color) + 0.25 * direction / np.linalg.norm(direction), 0, 1))


class Visualizer(Canvas):
    """Draws over one image; every ``draw_*`` and ``overlay_*`` adds to the output and returns it.

    Args:
        img_rgb: (H, W, 3) RGB in [0, 255].
        metadata: names and colours of the dataset's classes.
        scale: size of the output relative to the image; labels keep their size.
        instance_mode: how instances are coloured.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Metadata | None = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
    ):
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata = Metadata() if metadata is None else metadata
        self._instance_mode = instance_mode
        super().__init__(VisImage(self.img, scale=scale))

    # ---- whole predictions and annotations

    def draw_instance_predictions(self, predictions: Instances) -> VisImage:
        """Draw what a detector found.

        Args:
            predictions: on the CPU, with any of ``pred_boxes``, ``pred_classes``, ``scores``, ``pred_masks`` (N, H, W)
                and ``pred_keypoints``. Boxes are not drawn where there are masks.
        """
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        scores = predictions.scores.tolist() if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        labels = _create_text_labels(classes, scores, self.metadata.get("thing_classes"))
        keypoints = predictions.pred_keypoints if predictions.has("pred_keypoints") else None
        masks = self._convert_masks(predictions.pred_masks) if predictions.has("pred_masks") else None

        colors, alpha = self._class_colors(classes), 0.5
        if colors is not None:
            alpha = 0.8
        if self._instance_mode == ColorMode.IMAGE_BW:
            self._grey_out(masks)
            alpha = 0.3
        return self.overlay_instances(
            boxes=boxes if masks is None else None,
            labels=labels,
            masks=masks,
            keypoints=keypoints,
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draw the annotations of a dataset record."""
        annotations = dic.get("annotations") or []
        if not annotations:
            return self.output
        first = annotations[0]
        classes = [a.get("category_id") for a in annotations] if "category_id" in first else None
        crowd = [a.get("iscrowd", 0) for a in annotations]
        return self.overlay_instances(
            boxes=[BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
            labels=_create_text_labels(classes, None, self.metadata.get("thing_classes"), crowd),
            masks=[a["segmentation"] for a in annotations] if "segmentation" in first else None,
            keypoints=np.array([a["keypoints"] for a in annotations]).reshape(len(annotations), -1, 3)
            if "keypoints" in first
            else None,
            assigned_colors=self._class_colors(classes),
        )

    def draw_sem_seg(self, sem_seg, area_threshold: int | None = None, alpha: float = 0.8) -> VisImage:
        """Draw a semantic segmentation, larger classes first.

        Args:
            sem_seg: (H, W) int tensor or array of class ids; ids beyond the metadata's ``stuff_classes`` are not drawn.
            area_threshold: connected parts below this many pixels are not drawn.
        """
        sem_seg = sem_seg.numpy() if isinstance(sem_seg, torch.Tensor) else sem_seg
        names = self.metadata.get("stuff_classes")
        colors = self.metadata.get("stuff_colors") or colormap(rgb=True)
        labels, areas = np.unique(sem_seg, return_counts=True)
        for label in labels[np.argsort(-areas)]:
            if names is not None and label >= len(names):
                continue
            self.draw_binary_mask(
                sem_seg == label,
                color=np.asarray(colors[label % len(colors)]) / 255,
                text=str(label) if names is None else names[label],
                alpha=alpha,
                area_threshold=area_threshold,
            )
        return self.output

    def overlay_instances(
        self,
        *,
        boxes=None,
        labels: list[str] | None = None,
        masks=None,
        keypoints=None,
        assigned_colors: list | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw instances, larger ones first.

        Args:
            boxes: Boxes, or (N, 4) XYXY_ABS.
            labels: a text for each.
            masks: BitMasks, PolygonMasks, (N, H, W) tensor or array, or a list of what :class:`GenericMask` takes.
            keypoints: (N, K, 3) x, y, score.
            assigned_colors: a colour for each; default: random ones of the table.
            alpha: opacity of masks.
        """
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        keypoints = None if keypoints is None else np.asarray(keypoints)
        given = [x for x in (boxes, masks, keypoints, labels, assigned_colors) if x is not None]
        num_instances = len(given[0]) if given else 0
        assert all(len(x) == num_instances for x in given), f"numbers of instances differ: {[len(x) for x in given]}"
        if assigned_colors is None:
            assigned_colors = [random_color(rgb=True, maximum=1) for _ in range(num_instances)]

        order = range(num_instances)
        if boxes is not None:
            order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        elif masks is not None:
            order = np.argsort([-int(m.area()) for m in masks])
        for i in order:
            color = assigned_colors[i]
            if boxes is not None:
                self.draw_box(boxes[i], edge_color=color)
            if masks is not None:
                self._draw_mask(masks[i], color, alpha)
            if keypoints is not None:
                self._draw_keypoints(keypoints[i], color)
            if labels is not None:
                self._draw_label(labels[i], color, None if boxes is None else boxes[i], masks and masks[i])
        return self.output

    # ---- single masks

    def draw_binary_mask(
        self,
        binary_mask: np.ndarray,
        color=None,
        *,
        edge_color=None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int | None = 10,
    ) -> VisImage:
        """Draw a mask.

        Args:
            binary_mask: (H, W), non-zero inside.
            color: default: a random one of the table.
            text: written on the larger connected parts.
            area_threshold: connected parts below this many pixels are not drawn.
        """
        color = random_color(rgb=True, maximum=1) if color is None else mplc.to_rgb(color)
        binary_mask = np.asarray(binary_mask) != 0
        if area_threshold:
            binary_mask = _without_small_parts(binary_mask, area_threshold)
        if binary_mask.any():
            self._draw_mask(GenericMask(binary_mask, *binary_mask.shape), color, alpha, edge_color)
            if text is not None:
                self._draw_text_in_mask(binary_mask, text, color)
        return self.output

    def draw_soft_mask(
        self, soft_mask: np.ndarray, color=None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a mask of opacities in [0, 1], (H, W); ``text`` is written where they are at least 0.5."""
        color = random_color(rgb=True, maximum=1) if color is None else mplc.to_rgb(color)
        self._blend(np.asarray(soft_mask) * alpha, color)
        if text is not None:
            self._draw_text_in_mask(np.asarray(soft_mask) >= 0.5, text, color)
        return self.output

    # ---- parts of the above

    def _class_colors(self, classes: list[int] | None) -> list | None:
        """In SEGMENTATION mode, tones of the classes' colours (where the metadata has them)."""
        table = self.metadata.get("thing_colors")
        if self._instance_mode != ColorMode.SEGMENTATION or table is None or classes is None:
            return None
        return [_jittered(np.asarray(table[c]) / 255) for c in classes]

    def _grey_out(self, masks: list[GenericMask] | None) -> None:
        """Keep colour inside the masks only."""
        grey = np.repeat(self.img.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
        for mask in masks or []:
            grey[mask.mask > 0] = self.img[mask.mask > 0]
        self.output.reset_image(grey)

    def _convert_boxes(self, boxes) -> np.ndarray:
        boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return (boxes.detach().numpy() if isinstance(boxes, torch.Tensor) else np.asarray(boxes)).reshape(-1, 4)

    def _convert_masks(self, masks) -> list[GenericMask]:
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks):
            masks = masks.tensor
        if isinstance(masks, torch.Tensor):
            masks = masks.numpy()
        size = self.img.shape[:2]
        return [m if isinstance(m, GenericMask) else GenericMask(m, *size) for m in masks]

    def _draw_mask(self, mask: GenericMask, color, alpha: float, edge_color=None) -> None:
        if mask.has_holes:
            # filled polygons would cover the holes
            self._blend(mask.mask * alpha, mplc.to_rgb(color))
            return
        for polygon in mask.polygons:
            self.draw_polygon(polygon, color, edge_color=edge_color, alpha=alpha)

    def _draw_label(self, text: str, color, box: np.ndarray | None, mask: GenericMask | None) -> None:
        """Write a label at a box's corner, or in the middle of a mask; small objects get it beside them."""
        if box is not None:
            position, alignment = (box[0], box[1]), "left"
        elif mask is not None and mask.area() > 0:
            ys, xs = mask.mask.nonzero()
            position, alignment = (float(np.median(xs)), float(np.median(ys))), "center"
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        else:
            return
        x0, y0, x1, y1 = box
        height, width = self.output.height, self.output.width
        if (x1 - x0) * (y1 - y0) < _SMALL_OBJECT_AREA * self.output.scale or y1 - y0 < 40 * self.output.scale:
            position = (x1, y0) if y1 >= height - 5 else (x0, y1)
        # larger letters for larger objects
        relative_height = (y1 - y0) / np.sqrt(height * width)
        factor = np.clip((relative_height - 0.02) / 0.08 + 1, 1.2, 2) * 0.5
        self.draw_text(
            text,
            position,
            color=lighter(color, 0.7),
            horizontal_alignment=alignment,
            font_size=factor * self._default_font_size,
        )

    def _draw_text_in_mask(self, mask: np.ndarray, text: str, color) -> None:
        """Write on the largest connected part of a mask, and on others that are large."""
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        if count < 2:
            return
        areas = stats[1:, cv2.CC_STAT_AREA]  # part 0 is the background
        for part in range(1, count):
            if part == areas.argmax() + 1 or areas[part - 1] > 20000:
                y, x = np.median(np.nonzero(parts == part), axis=1)
                self.draw_text(text, (float(x), float(y)), color=lighter(color, 0.7))

    def _draw_keypoints(self, keypoints: np.ndarray, color) -> None:
        """Discs at the points (K, 3) whose score is high enough, and the metadata's lines between them."""
        visible = {}
        names = self.metadata.get("keypoint_names") or range(len(keypoints))
        for name, (x, y, score) in zip(names, keypoints):
            if score > _KEYPOINT_THRESHOLD:
                self.draw_circle((x, y), color=color)
                visible[name] = (x, y)
        for begin, end, line_color in self.metadata.get("keypoint_connection_rules") or []:
            if begin in visible and end in visible:
                (x0, y0), (x1, y1) = visible[begin], visible[end]
                self.draw_line([x0, x1], [y0, y1], color=tuple(c / 255 for c in line_color))


def _without_small_parts(mask: np.ndarray, min_area: int) -> np.ndarray:
    """The (H, W) bool mask without its connected parts of fewer than ``min_area`` pixels."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return mask & (stats[:, cv2.CC_STAT_AREA] >= min_area)[parts]
