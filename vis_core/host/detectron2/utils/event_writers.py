"""Where the numbers of an :class:`~detectron2.utils.events.EventStorage` go: json lines, tensorboard, the log.

Import these from :mod:`detectron2.utils.events`.
"""

import contextlib
import datetime
import json
import logging
import os
import time
from collections import defaultdict
from functools import cached_property

import torch

from .file_io import PathManager

storages: list = []
"""The storages in use, innermost last; only :mod:`detectron2.utils.events` changes it."""


def _current_storage():
    assert storages, "a writer must be used within a 'with EventStorage(...)' block"
    return storages[-1]


class EventWriter:
    """Base class: ``write()`` takes what is new in the current storage, ``close()`` ends the output."""

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class JSONWriter(EventWriter):
    """Appends one json object per line and iteration, with its scalars and ``iteration``, keys sorted.

    Values for iterations that are not newer than the last write are left out.
    """

    def __init__(self, json_file: str, window_size: int = 20):
        """
        Args:
            window_size: noisy scalars are written as medians over this many iterations.
        """
        self._file_handle = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        rows = defaultdict(dict)  # iteration -> scalars
        for name, (value, i) in _current_storage().latest_with_smoothing_hint(self._window_size).items():
            if i > self._last_write:
                rows[i][name] = value
        for i, scalars in sorted(rows.items()):
            self._file_handle.write(json.dumps({**scalars, "iteration": i}, sort_keys=True) + "\n")
        self._last_write = max(rows, default=self._last_write)
        self._file_handle.flush()
        with contextlib.suppress(AttributeError, OSError):  # not a file of this machine
            os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, images and histograms as tensorboard events; the file appears with the first write."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs):
        """
        Args:
            kwargs: for ``torch.utils.tensorboard.SummaryWriter``.
        """
        self._window_size = window_size
        self._writer_args = {"log_dir": log_dir, **kwargs}
        self._last_write = -1

    @cached_property
    def _writer(self):
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        return SummaryWriter(**self._writer_args)

    def write(self) -> None:
        storage = _current_storage()
        newest = self._last_write
        for name, (value, i) in storage.latest_with_smoothing_hint(self._window_size).items():
            if i > self._last_write:
                self._writer.add_scalar(name, value, i)
                newest = max(newest, i)
        self._last_write = newest

        for name, image, i in storage.vis_data():
            self._writer.add_image(name, image, i)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        if "_writer" in self.__dict__:  # something was written
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs iteration, time left, losses, times, learning rate and GPU memory on one line."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        """
        Args:
            max_iter: the iteration at which training ends; without it no time left is shown.
            window_size: losses and times are taken over this many iterations.
        """
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration, clock

    def write(self) -> None:
        storage = _current_storage()
        if storage.iter == self._max_iter:
            return  # after training, metrics of the final evaluation come without a step
        eta = self._eta(storage)
        fields = [
            f"eta: {eta}" if eta else "",
            f"iter: {storage.iter}",
            "  ".join(self._medians(storage, "loss")),
            "  ".join(self._medians(storage, "[metric]")),
        ]
        parts = "  ".join(fields[1:])
        line = (f"{fields[0]}  " if eta else "") + parts + "  " + self._times(storage)
        self.logger.info(f" {line} lr: {self._learning_rate(storage)}  {self._memory()}")

    def _medians(self, storage, marker: str) -> list[str]:
        return [
            f"{name}: {history.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, history in storage.histories().items()
            if marker in name
        ]

    def _times(self, storage) -> str:
        text = ""
        for name in ("time", "data_time"):
            if name in storage.histories():
                history = storage.history(name)
                mean = history.avg(storage.count_samples(name, self._window_size))
                text += f"{name}: {mean:.4f}  last_{name}: {history.latest():.4f}  "
        return text

    @staticmethod
    def _learning_rate(storage) -> str:
        return f"{storage.history('lr').latest():.5g}" if "lr" in storage.histories() else "N/A"

    @staticmethod
    def _memory() -> str:
        if not torch.cuda.is_available():
            return ""
        return f"max_mem: {torch.cuda.max_memory_allocated() / 1024**2:.0f}M"

    def _eta(self, storage) -> str:
        """Time left as h:mm:ss, from the recorded times per iteration or else from the clock; "" if unknown."""
        if self._max_iter is None:
            return ""
        iterations_left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * iterations_left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(seconds)))
        now = time.perf_counter()
        previous, self._last_write = self._last_write, (storage.iter, now)
        if previous is None or previous[0] == storage.iter:
            return ""
        seconds = (now - previous[1]) / (storage.iter - previous[0]) * iterations_left
        return str(datetime.timedelta(seconds=int(seconds)))
