"""Reading ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_END = object()


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``items`` in order while a thread fetches up to ``depth`` of them ahead.

    The thread starts with the first item asked for and ends with the iteration, also when the consumer leaves
    early (the generator is closed). What iterating ``items`` raises is raised here, in its place in the order.
    ``depth`` 0 iterates without a thread.
    """
    if depth <= 0:
        yield from items
        return
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(items, ready, stop), name="prefetch", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        worker.join()


def _fill(items: Iterable, ready: queue.Queue, stop: threading.Event) -> None:
    iterator = iter(items)
    try:
        for item in iterator:
            if not _put(ready, item, stop):
                break
        else:
            _put(ready, _END, stop)
    except BaseException as e:  # handed to the consumer, whatever it is
        _put(ready, _Failure(e), stop)
    finally:
        if hasattr(iterator, "close"):
            iterator.close()  # generators release their files in the thread that used them


def _put(ready: queue.Queue, item: object, stop: threading.Event) -> bool:
    """Wait for room in the queue; False once the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.05)
            return True
        except queue.Full:
            continue
    return False
