"""Scalars and images that a training run produces, by iteration."""

from collections import defaultdict
from contextlib import contextmanager

import torch
from fvcore.common.history_buffer import HistoryBuffer

from .event_writers import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from .event_writers import storages as _storages

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]


def get_event_storage() -> "EventStorage":
    """The innermost storage that is in use as a context manager.

    Raises:
        AssertionError: outside of any ``with EventStorage(...)``.
    """
    assert _storages, "get_event_storage() must be called within a 'with EventStorage(...)' block"
    return _storages[-1]


def has_event_storage() -> bool:
    return bool(_storages)


class EventStorage:
    """Collects scalars, images and histograms; writers read them. Use as a context manager around a training loop."""

    def __init__(self, start_iter: int = 0):
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, torch.Tensor, int]] = []
        self._histograms: list[dict] = []

    def __enter__(self) -> "EventStorage":
        _storages.append(self)
        return self

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        assert _storages[-1] is self, "storages must be left in reverse order"
        _storages.pop()

    @property
    def iter(self) -> int:
        """The current iteration."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        return self._iter

    def step(self) -> None:
        """Go to the next iteration."""
        self._iter += 1

    @contextmanager
    def name_scope(self, name: str):
        """Within the block, names get the prefix ``name/`` (instead of an outer scope's)."""
        outer = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def put_scalar(self, name: str, value, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Record a number.

        Args:
            smoothing_hint: is the number noisy, so that a median over a window should be shown instead?
            cur_iter: its iteration; the current one by default.

        Raises:
            AssertionError: if the name was recorded with the other hint before (the number is kept all the same).
        """
        name = self._current_prefix + name
        cur_iter = self._iter if cur_iter is None else cur_iter
        value = float(value)
        self._history[name].update(value, cur_iter)
        self._latest_scalars[name] = (value, cur_iter)
        known_hint = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, f"scalar {name} was recorded with smoothing_hint={known_hint} before"

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars) -> None:
        """Record several numbers: ``put_scalars(loss=..., accuracy=...)``."""
        for name, value in scalars.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor) -> None:
        """Record an image (C, H, W): RGB as uint8, or as floats from 0 to 1."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Record the histogram of a tensor's values."""
        values = hist_tensor.detach().float().flatten()
        low, high = values.min().item(), values.max().item()
        edges = torch.linspace(low, high, steps=bins + 1)
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": len(values),
                "sum": float(values.sum()),
                "sum_squares": float((values**2).sum()),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": torch.histc(values, bins=bins).tolist(),
                "global_step": self._iter,
            }
        )

    def history(self, name: str) -> HistoryBuffer:
        """All values of a scalar. Raises KeyError if there is none of that name."""
        if name not in self._history:
            raise KeyError(f"no scalar named {name} was recorded")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """{name: (latest value, its iteration)}"""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like :meth:`latest`, with the median over the last ``window_size`` iterations for noisy scalars."""
        return {
            name: (self._history[name].median(self.count_samples(name, window_size)), i)
            if self._smoothing_hints[name]
            else (value, i)
            for name, (value, i) in self._latest_scalars.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of a scalar fall into the ``window_size`` iterations that end with its latest."""
        values = self._history[name].values()
        first = values[-1][1] - window_size
        samples = 0
        for _, i in reversed(values):
            if i <= first:
                break
            samples += 1
        return samples

    def smoothing_hints(self) -> dict[str, bool]:
        return self._smoothing_hints

    def vis_data(self) -> list[tuple[str, torch.Tensor, int]]:
        """(name, image, iteration) of the images not cleared yet."""
        return self._vis_data

    def clear_images(self) -> None:
        """Forget the images; a writer calls this after writing them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; a writer calls this after writing them."""
        self._histograms = []
