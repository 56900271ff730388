"""Augmentations of a whole clip.

A clip augmentation is asked once a clip, ``start_clip(num_frames)``, for a function ``image -> Transform`` that is then
called with every frame, in order. What the frames of a clip share lives in that function, so nothing is left
over for the next clip, not even if this one fails. Images are uint8 (H, W, 3), at first all of one size.

Draws come from numpy's global generator in the order of the published code: a choice that the clip shares is made
when its first frame gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, HFlipTransform, NoOpTransform, Transform, TransformList

from vis_core.data.resize import check_backend, resize_transform
from vis_core.errors import ConfigError

FrameTransform = Callable[[np.ndarray], Transform]
RESIZE_STYLES = ("choice", "range", "choice_by_clip", "range_by_clip")


class ClipAugmentation(Protocol):
    def start_clip(self, num_frames: int) -> FrameTransform:
        """Begin a clip; the result is called with each of its images, in order."""
        ...


def augment_clip(
    augmentation: ClipAugmentation, images: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[Transform]]:
    """The augmented images, and for each the transform that its annotations have to go through as well."""
    frame_transform = augmentation.start_clip(len(images))
    results, transforms = [], []
    for image in images:
        transforms.append(frame_transform(image))
        results.append(transforms[-1].apply_image(image))
    return results, transforms


class Chain:
    """One augmentation after the other, frame by frame."""

    def __init__(self, augmentations: Sequence[ClipAugmentation]):
        self.augmentations = list(augmentations)

    def start_clip(self, num_frames: int) -> FrameTransform:
        steps = [augmentation.start_clip(num_frames) for augmentation in self.augmentations]

        def transform(image: np.ndarray) -> Transform:
            done = []
            for i, step in enumerate(steps):
                done.append(step(image))
                if i + 1 < len(steps):
                    image = done[-1].apply_image(image)
            return TransformList(done)

        return transform


class Sometimes:
    """The augmentation, for the whole clip, with probability ``prob``: if a uniform draw is low, or (``high``) high."""

    def __init__(self, augmentation: ClipAugmentation, prob: float, high: bool = False):
        self.augmentation = augmentation
        self.prob = prob
        self.high = high

    def start_clip(self, num_frames: int) -> FrameTransform:
        draw = np.random.rand()
        if (draw >= 1 - self.prob) if self.high else (draw < self.prob):
            return self.augmentation.start_clip(num_frames)
        return lambda image: NoOpTransform()


class PerFrame:
    """A Detectron2 augmentation with a draw of its own for every frame."""

    def __init__(self, augmentation: T.Augmentation):
        self.augmentation = augmentation

    def start_clip(self, num_frames: int) -> FrameTransform:
        return self.augmentation.get_transform


class OncePerClip:
    """A Detectron2 augmentation whose transform for the first frame serves all; they must have one size here."""

    def __init__(self, augmentation: T.Augmentation):
        self.augmentation = augmentation

    def start_clip(self, num_frames: int) -> FrameTransform:
        return _share(self.augmentation.get_transform)


class Resize:
    """Short side drawn from ``sizes`` (style "choice") or from the integers between its two values ("range"), the long
    side at most ``max_size``; a draw per frame, or one per clip (style with "_by_clip"). Size 0 keeps the image's own.
    """

    def __init__(
        self,
        sizes: int | Sequence[int],
        max_size: int,
        style: str = "choice",
        backend: str = "pillow",
        node: str = "INPUT",
    ):
        """
        Args:
            node: the config keys' common beginning, for messages.

        Raises:
            ConfigError: unknown ``style`` or ``backend``, or ``sizes`` that do not fit the style.
        """
        self.sizes = [sizes] if isinstance(sizes, int) else list(sizes)
        self.max_size, self.style, self.backend = max_size, style, backend
        check_backend(backend)
        check_style(style, node)
        if not self.sizes or (style.startswith("range") and len(self.sizes) != 2):
            raise ConfigError(f"{node}.MIN_SIZE_TRAIN: {self.sizes} does not fit MIN_SIZE_TRAIN_SAMPLING '{style}'")

    def start_clip(self, num_frames: int) -> FrameTransform:
        draw = _share(self._draw) if self.style.endswith("_by_clip") else self._draw
        return lambda image: resize_transform(*image.shape[:2], draw(), self.max_size, self.backend)

    def _draw(self) -> int:
        if self.style.startswith("range"):
            return int(np.random.randint(self.sizes[0], self.sizes[1] + 1))
        return int(np.random.choice(self.sizes))


def check_style(style: str, node: str) -> None:
    """Raise ConfigError, which names the key below ``node``, unless ``style`` is one of ``RESIZE_STYLES``."""
    if style not in RESIZE_STYLES:
        raise ConfigError(f"{node}.MIN_SIZE_TRAIN_SAMPLING '{style}' is unknown; known: {', '.join(RESIZE_STYLES)}")


class FlipByClip:
    """Mirror left and right, all frames or none, with probability 1/2."""

    def start_clip(self, num_frames: int) -> FrameTransform:
        draw = _share(lambda: np.random.uniform() < 0.5)
        return lambda image: HFlipTransform(image.shape[1]) if draw() else NoOpTransform()


class MovingCrop:
    """A crop whose window drifts from one random corner to another, right of and below it, or back.

    ``crop_type`` and ``size`` as in Detectron2's RandomCrop; one size a clip; the positions on the way are sorted
    uniform draws. With ``still`` the window stays where it starts (CTVIS on real video: not a uniform position).
    """

    def __init__(self, crop_type: str, size: Sequence[float], still: bool = False):
        self.crop = T.RandomCrop(crop_type, tuple(size))
        self.still = still

    def start_clip(self, num_frames: int) -> FrameTransform:
        draw = _share(lambda image_size: iter(self._path(image_size, num_frames)))
        return lambda image: next(draw(image.shape[:2]))

    def _path(self, image_size: tuple[int, int], num_frames: int) -> list[CropTransform]:
        height, width = self.crop.get_crop_size(image_size)
        free_y, free_x = image_size[0] - height, image_size[1] - width
        start = np.array([np.random.randint(free_y + 1), np.random.randint(free_x + 1)])
        end = np.array([np.random.randint(start[0], free_y + 1), np.random.randint(start[1], free_x + 1)])
        weights = np.sort(np.random.rand(num_frames))[:, None]
        if np.random.rand() < 0.5:
            weights = weights[::-1]
        corners = np.rint(start * weights + end * (1 - weights)).astype(int)  # (num_frames, 2), y and x
        if self.still:
            corners[:] = corners[0]
        return [CropTransform(int(x), int(y), width, height) for y, x in corners]


class Spin:
    """Rotation that turns one way: an angle a frame from [-limit, limit] degrees, sorted, around one centre.

    The centre is drawn from the middle [0.4, 0.6] of both sides; the image keeps its size.
    """

    def __init__(self, limit: float):
        self.limit = limit

    def start_clip(self, num_frames: int) -> FrameTransform:
        draw = _share(lambda image_size: iter(self._turns(image_size, num_frames)))
        return lambda image: next(draw(image.shape[:2]))

    def _turns(self, image_size: tuple[int, int], num_frames: int) -> list[Transform]:
        height, width = image_size
        angles = np.sort(np.random.uniform(-self.limit, self.limit, num_frames))
        center = (np.random.uniform(0.4, 0.6) * width, np.random.uniform(0.4, 0.6) * height)
        if np.random.rand() < 0.5:
            angles = angles[::-1]
        return [T.RotationTransform(height, width, float(angle), expand=False, center=center) for angle in angles]


class TurnedCopy:
    """One frame, drawn at random, stays; the others turn by up to ``limit`` degrees either way and scale by a factor
    from ``scale``, each with draws of its own, around the image's middle. The images keep their size.
    """

    def __init__(self, limit: float, scale: Sequence[float]):
        self.limit = limit
        self.scale = tuple(scale)

    def start_clip(self, num_frames: int) -> FrameTransform:
        still = np.random.randint(num_frames)
        frames = iter(range(num_frames))

        def transform(image: np.ndarray) -> Transform:
            if next(frames) == still:
                return NoOpTransform()
            angle, scale = np.random.uniform(-self.limit, self.limit), np.random.uniform(*self.scale)
            return TurnTransform(*image.shape[:2], angle, scale)

        return transform


class TurnTransform(Transform):
    """Turn an image (h, w) counter-clockwise by ``angle`` degrees around its middle and scale it; its size stays."""

    def __init__(self, h: int, w: int, angle: float, scale: float):
        super().__init__()
        cos, sin = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
        self.matrix = np.array([[cos, sin], [-sin, cos]])  # y points down
        self.middle = np.array([w / 2, h / 2])

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return (coords - self.middle) @ self.matrix.T + self.middle

    def apply_image(self, img: np.ndarray, interp: int = cv2.INTER_LINEAR) -> np.ndarray:
        # Pixel i has its centre at i + 0.5.
        offset = self.apply_coords(np.array([0.5, 0.5])) - 0.5
        matrix = np.column_stack([self.matrix, offset])
        return cv2.warpAffine(img, matrix, img.shape[1::-1], flags=interp)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, cv2.INTER_NEAREST)


def _share(draw: Callable) -> Callable:
    """``draw`` called once; later calls give the same result."""
    drawn = []

    def shared(*args):
        if not drawn:
            drawn.append(draw(*args))
        return drawn[0]

    return shared
