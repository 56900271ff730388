"""The fields of the instances in one image."""

import itertools
from numbers import Integral
from typing import Any

import torch
from detectron2.layers.wrappers import cat


class Instances:
    """Named fields of equal length about the instances in one image.

    A field is a tensor, a list, or any object with a length and indexing (Boxes, BitMasks, …). Fields are set and
    read as attributes: ``instances.scores = scores``. Indexing selects instances in all fields at once.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any):
        """
        Args:
            image_size: (height, width).
            kwargs: fields.
        """
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)"""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # _fields itself is absent while an object is being unpickled or copied.
        if name == "_fields" or name not in self._fields:
            raise AttributeError(f"Instances has no field '{name}'")
        return self._fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set a field; its length must be that of the others (AssertionError)."""
        length = len(value)
        if self._fields:
            assert length == len(self), f"field {name} has length {length}, the others have {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        return name in self._fields

    def remove(self, name: str) -> None:
        del self._fields[name]

    def get(self, name: str) -> Any:
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """The dict of fields itself, not a copy."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """A copy whose fields went through their ``.to(...)``, where they have one."""
        moved = {k: v.to(*args, **kwargs) if hasattr(v, "to") else v for k, v in self._fields.items()}
        return _from_fields(self._image_size, moved)

    def __getitem__(self, item) -> "Instances":
        """Instances at an int (one; IndexError if there is none), a slice, or a bool or integer tensor.

        Fields that are python lists know ints and slices only.
        """
        if isinstance(item, Integral) and not isinstance(item, bool):
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            start = int(item) % len(self)
            item = slice(start, start + 1)
        return _from_fields(self._image_size, {k: v[item] for k, v in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without any field has no length")

    def __iter__(self):
        raise NotImplementedError("Instances cannot be iterated; index it instead")

    @staticmethod
    def cat(instance_lists: list["Instances"]) -> "Instances":
        """All instances in one object, with the fields of the first. A list of one gives that very object."""
        assert instance_lists and all(isinstance(i, Instances) for i in instance_lists)
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        assert all(i.image_size == first.image_size for i in instance_lists), "image sizes differ"
        fields = {name: _concatenate([i.get(name) for i in instance_lists]) for name in first._fields}
        return _from_fields(first.image_size, fields)

    def __str__(self) -> str:
        fields = ", ".join(f"{k}: {v}" for k, v in self._fields.items())
        n = len(self) if self._fields else 0
        h, w = self._image_size
        return f"{type(self).__name__}(num_instances={n}, image_height={h}, image_width={w}, fields=[{fields}])"

    __repr__ = __str__


def _from_fields(image_size: tuple[int, int], fields: dict[str, Any]) -> Instances:
    instances = Instances(image_size)
    for name, value in fields.items():
        instances.set(name, value)
    return instances


def _concatenate(values: list) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"fields of type {type(first).__name__} cannot be concatenated")
