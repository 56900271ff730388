"""Augmentations of colour. Each blends the image with another one; weights above 1 move away from it."""

import numpy as np
from fvcore.transforms.transform import BlendTransform, Transform

from .augmentation import Augmentation

__all__ = ["RandomBrightness", "RandomContrast", "RandomLighting", "RandomSaturation"]

# ITU-R BT.601 luma of R, G, B
LUMA = (0.299, 0.587, 0.114)

# principal components of ImageNet's RGB values (AlexNet, section 4.1): columns are vectors
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
PCA_VALUES = (0.2175, 0.0188, 0.0045)


class _RandomBlend(Augmentation):
    """Weight the image by a uniform draw from [intensity_min, intensity_max] and its counterpart by the rest."""

    def __init__(self, intensity_min: float, intensity_max: float):
        self._init(locals())

    def _counterpart(self, image: np.ndarray):
        raise NotImplementedError

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=self._counterpart(image), src_weight=1 - weight, dst_weight=weight)


class RandomBrightness(_RandomBlend):
    """Blend with black: below 1 darker, above 1 brighter."""

    def _counterpart(self, image: np.ndarray):
        return 0


class RandomContrast(_RandomBlend):
    """Blend with the image's mean value: below 1 less contrast, above 1 more."""

    def _counterpart(self, image: np.ndarray):
        return image.mean()


class RandomSaturation(_RandomBlend):
    """Blend with a grey image: below 1 paler, above 1 stronger. The three channels are taken as R, G, B."""

    def _counterpart(self, image: np.ndarray):
        assert image.ndim == 3 and image.shape[-1] == 3, f"saturation needs (H, W, 3), got {image.shape}"
        return image.dot(LUMA)[:, :, None]


class RandomLighting(Augmentation):
    """AlexNet's colour noise: add the principal components of ImageNet's colours, weighted by N(0, scale) draws."""

    def __init__(self, scale: float):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        assert image.ndim == 3 and image.shape[-1] == 3, f"lighting needs (H, W, 3), got {image.shape}"
        weights = np.random.normal(scale=self.scale, size=3)
        shift = np.asarray(PCA_VECTORS) @ (weights * np.asarray(PCA_VALUES))
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)
