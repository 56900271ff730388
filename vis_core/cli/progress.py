"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


@contextmanager
def progress(label: str, total: int | None, unit: str = "frames", interval: float = 10.0) -> Iterator[Callable]:
    """Show how far a job is, with rate and estimated time left, on stderr.

    Args:
        label: what is being done ("segmenting").
        total: number of steps, None if unknown.
        unit: what a step is.
        interval: seconds between plain lines where stderr is not a terminal.

    Yields:
        ``advance(n=1)``, to be called as steps complete.
    """
    if sys.stderr.isatty():
        yield from _bar(label, total, unit)
    else:
        yield from _lines(label, total, unit, interval)


@contextmanager
def reading(path: str | Path, least: int = 50_000_000) -> Iterator[None]:
    """Say that a file of at least ``least`` bytes is being read inside, and how long it took."""
    size = os.path.getsize(path) if os.path.isfile(path) else -1
    if size < least:
        yield
        return
    text, start = f"reading {path} ({size / 1e6:,.0f} MB)", time.perf_counter()
    if sys.stderr.isatty():
        with Console(stderr=True).status(text):
            yield
    else:
        print(text, file=sys.stderr, flush=True)
        yield
    print(f"{text}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def track(items: Iterable[T], advance: Callable) -> Iterator[T]:
    """Yield the items, calling ``advance()`` each time one has been dealt with."""
    for item in items:
        yield item
        advance()


def _bar(label: str, total: int | None, unit: str) -> Iterator[Callable]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]:.1f}} {unit}/s"),
        TimeRemainingColumn(),
    )
    start = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, rate=0.0)

        def advance(n: int = 1) -> None:
            done = bar.tasks[task].completed + n
            bar.update(task, advance=n, rate=done / (time.perf_counter() - start))

        yield advance


def _lines(label: str, total: int | None, unit: str, interval: float) -> Iterator[Callable]:
    start = last = time.perf_counter()
    done = 0

    def line() -> str:
        rate = done / max(time.perf_counter() - start, 1e-9)
        text = f"{label}: {done}{'' if total is None else f'/{total}'} {unit}, {rate:.1f} {unit}/s"
        if total is not None and rate > 0 and done < total:
            text += f", {_clock((total - done) / rate)} left"
        return text

    def advance(n: int = 1) -> None:
        nonlocal done, last
        done += n
        if time.perf_counter() - last >= interval and done != total:  # the last line comes at the end
            last = time.perf_counter()
            print(line(), file=sys.stderr, flush=True)

    yield advance
    print(line(), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
