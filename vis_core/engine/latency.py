"""How long a stream's results take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

RECENT = 1000  # results that the percentiles are about; older ones only count in mean and maximum


class Latency:
    """Seconds from a frame's arrival to its result, without what the consumer does in between.

    ``first`` is what the first result took (for a model that works in windows: the first window). Memory does not
    grow with the number of results.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.count = 0
        self.first = self.last = self.mean = self.worst = 0.0
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._arrivals: deque[float] = deque()
        self._away = 0.0  # seconds spent with the consumer

    def arriving(self, items: Iterable[T]) -> Iterator[T]:
        """The items, noting when each was there; one result is expected for each."""
        for item in items:
            self._arrivals.append(self._clock() - self._away)
            yield item

    def leaving(self, results: Iterable[T]) -> Iterator[T]:
        """The results, noting how long each took since the arrival of its item."""
        for result in results:
            left = self._clock()
            self._add(left - self._away - self._arrivals.popleft())
            yield result
            self._away += self._clock() - left

    def percentile(self, percent: float) -> float:
        """Of the last results; 0 if there are none."""
        ordered = sorted(self._recent)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0

    def summary(self) -> dict[str, float]:
        """Milliseconds: first, mean, median, p95, worst; and ``frames``, their number."""
        seconds = {
            "first": self.first,
            "mean": self.mean,
            "median": self.percentile(50),
            "p95": self.percentile(95),
            "worst": self.worst,
        }
        return {"frames": self.count, **{name: round(1000 * value, 2) for name, value in seconds.items()}}

    def _add(self, seconds: float) -> None:
        if self.count == 0:
            self.first = seconds
        self.count += 1
        self.last = seconds
        self.mean += (seconds - self.mean) / self.count
        self.worst = max(self.worst, seconds)
        self._recent.append(seconds)
