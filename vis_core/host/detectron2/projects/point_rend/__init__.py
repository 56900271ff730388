from .color_augmentation import ColorAugSSDTransform

__all__ = ["ColorAugSSDTransform"]
