"""Images of different sizes in one tensor."""

import torch
import torch.nn.functional as F
from torch import Tensor


class ImageList:
    """N images, padded at the right and bottom to a common size.

    Attributes:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of each image before padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]):
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx) -> Tensor:
        """One image (..., h, w) without its padding; a view."""
        h, w = self.image_sizes[idx]
        return self.tensor[idx, ..., :h, :w]

    def to(self, *args, **kwargs) -> "ImageList":
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: list[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad and stack.

        Args:
            tensors: (..., h, w) each, equal in the leading dimensions.
            size_divisibility: the common size is rounded up to a multiple of this (when > 1).
            padding_constraints: "square_size" > 0 sets both sides of the common size, before rounding;
                "size_divisibility" overrides the argument.

        Raises:
            AssertionError: for no tensors, or leading dimensions that differ.
        """
        assert isinstance(tensors, list | tuple) and len(tensors) > 0, "a non-empty list of tensors is needed"
        assert all(isinstance(t, Tensor) for t in tensors), [type(t) for t in tensors]
        assert all(t.shape[:-2] == tensors[0].shape[:-2] for t in tensors), [t.shape for t in tensors]
        image_sizes = [(t.shape[-2], t.shape[-1]) for t in tensors]
        height, width = max(h for h, _ in image_sizes), max(w for _, w in image_sizes)

        constraints = padding_constraints or {}
        square_size = constraints.get("square_size", 0)
        if square_size > 0:
            height = width = square_size
        divisor = constraints.get("size_divisibility", size_divisibility)
        if divisor > 1:
            height, width = -(-height // divisor) * divisor, -(-width // divisor) * divisor

        if len(tensors) == 1:
            h, w = image_sizes[0]
            batched = F.pad(tensors[0], [0, width - w, 0, height - h], value=pad_value).unsqueeze(0)
        else:
            batched = tensors[0].new_full((len(tensors), *tensors[0].shape[:-2], height, width), pad_value)
            for image, target in zip(tensors, batched):
                target[..., : image.shape[-2], : image.shape[-1]].copy_(image)
        return ImageList(batched.contiguous(), image_sizes)
