"""What an augmentation is: a random choice of a deterministic transform, made in view of its input."""

import inspect
import pprint
from collections.abc import Sequence

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


def _get_transform_inputs(aug: "Augmentation", aug_input) -> list:
    """The attributes of ``aug_input`` that ``aug.get_transform`` names as its parameters, in its order."""
    values = []
    for name, parameter in inspect.signature(aug.get_transform).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{type(aug).__name__}.get_transform must name its inputs, since they are looked up by name: "
                f"'{parameter}' is not possible there unless __call__ is overridden too"
            )
        if not hasattr(aug_input, name):
            raise AttributeError(
                f"{type(aug).__name__}.get_transform asks for '{name}', which {type(aug_input).__name__} does not have"
            )
        values.append(getattr(aug_input, name))
    return values


class Augmentation:
    """A policy that chooses a :class:`Transform` for each input.

    Subclasses implement ``get_transform(self, image)``. They may ask for more of the input by naming it, as in
    ``get_transform(self, image, sem_seg)``: the names are attributes of the :class:`AugInput`. All randomness comes
    from numpy's global generator, so that a seeded worker gives the same draws.
    """

    def _init(self, params: dict | None = None) -> None:
        """Store constructor arguments: ``self._init(locals())``."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, image: np.ndarray) -> Transform:
        """Choose a transform. ``image``: (H, W) or (H, W, C), uint8 or floating."""
        raise NotImplementedError

    def __call__(self, aug_input: "AugInput") -> Transform:
        """Choose a transform for ``aug_input``, apply it there in place, and return it."""
        transform = self.get_transform(*_get_transform_inputs(self, aug_input))
        assert isinstance(transform, Transform), (
            f"{type(self).__name__}.get_transform must return a Transform, got {type(transform)}"
        )
        aug_input.transform(transform)
        return transform

    def _rand_range(self, low: float = 1.0, high: float | None = None, size=None):
        """Uniform draw from [low, high); one number alone means [0, number)."""
        if high is None:
            low, high = 0.0, low
        return np.random.uniform(low, high, size)

    def __repr__(self) -> str:
        """``Name(argument=value, ...)`` with the arguments that differ from their default."""
        shown = []
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name == "self":
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(self, name):
                return super().__repr__()
            value = getattr(self, name)
            if value is parameter.default:
                continue
            text = pprint.pformat(value)
            shown.append(f"{name}={'...' if len(text.splitlines()) > 1 else text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


class _FixedAugmentation(Augmentation):
    """A transform in the place of an augmentation: no choice."""

    def __init__(self, transform: Transform):
        self.transform = transform

    def get_transform(self, *inputs) -> Transform:
        return self.transform

    def __call__(self, aug_input: "AugInput") -> Transform:
        aug_input.transform(self.transform)
        return self.transform

    def __repr__(self) -> str:
        return repr(self.transform)

    __str__ = __repr__


def _as_augmentation(item) -> Augmentation:
    """Accept what a list of augmentations may hold: augmentations and transforms."""
    if isinstance(item, Augmentation):
        return item
    assert isinstance(item, Transform), f"neither an Augmentation nor a Transform: {item!r}"
    return _FixedAugmentation(item)


class AugmentationList(Augmentation):
    """Augmentations in sequence; each one sees what the ones before made of the input."""

    def __init__(self, augs: Sequence):
        self.augs = [_as_augmentation(x) for x in augs]

    def __call__(self, aug_input: "AugInput") -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(str(x) for x in self.augs)}]"

    __str__ = __repr__


class AugInput:
    """An image and what has to move with it.

    Attributes:
        image: (H, W) or (H, W, C), uint8 in [0, 255] or floating.
        boxes: (N, 4) floating XYXY_ABS, or None.
        sem_seg: (H, W) integer labels, or None.
    """

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None):
        assert isinstance(image, np.ndarray), f"the image must be an array, got {type(image)}"
        assert image.ndim in (2, 3), f"the image must be (H, W) or (H, W, C), got {image.shape}"
        assert image.dtype == np.uint8 or image.dtype.kind == "f", f"uint8 or floating image, got {image.dtype}"
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, transform: Transform) -> None:
        """Apply a transform to everything here, in place."""
        self.image = transform.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = transform.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = transform.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: Sequence) -> TransformList:
        """Augment this input in place; returns the transforms that were chosen."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(augmentations: Sequence, inputs):
    """Augment an image array, or an :class:`AugInput` in place.

    Returns:
        (augmented image, TransformList) for an array; (the same AugInput, TransformList) otherwise.
    """
    aug_input = AugInput(inputs) if isinstance(inputs, np.ndarray) else inputs
    transforms = aug_input.apply_augmentations(augmentations)
    return (aug_input.image if isinstance(inputs, np.ndarray) else inputs), transforms


# older names of the same things
TransformGen = Augmentation
apply_transform_gens = apply_augmentations
StandardAugInput = AugInput
