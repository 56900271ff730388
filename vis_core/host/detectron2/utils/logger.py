"""Loggers for the terminal and for files, and messages that do not repeat too often."""

import atexit
import copy
import functools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping

from tabulate import tabulate
from termcolor import colored

from .file_io import PathManager

__all__ = ["create_small_table", "log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

_DATE = "%m/%d %H:%M:%S"


class _ColorfulFormatter(logging.Formatter):
    """Marks warnings and errors, and shortens the root logger's name in every line."""

    def __init__(self, *args, root_name: str, abbrev_name: str, **kwargs):
        self._root_name = root_name
        self._abbrev_name = abbrev_name
        super().__init__(*args, **kwargs)

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers get the full name
        record.name = record.name.replace(self._root_name, self._abbrev_name, 1)
        text = super().formatMessage(record)
        if record.levelno == logging.WARNING:
            return colored("WARNING", "red", attrs=["blink"]) + " " + text
        if record.levelno >= logging.ERROR:
            return colored("ERROR", "red", attrs=["blink", "underline"]) + " " + text
        return text


@functools.lru_cache  # a second call with the same arguments adds no second handler
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Set up a logger at level DEBUG.

    Args:
        output: a file (ending in .txt or .log), or a folder for ``log.txt``; ranks other than 0 append ``.rankN``.
        distributed_rank: only rank 0 writes to stdout.
        color: colours on stdout.
        name: the root of the logger's module names.
        abbrev_name: how ``name`` is shown on stdout; "d2" for "detectron2", else ``name``, by default.
        enable_propagation: hand messages on to the parent loggers too.
        configure_stdout: write to stdout at all.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt=_DATE)

    if configure_stdout and distributed_rank == 0:
        formatter = plain
        if color:
            short = abbrev_name if abbrev_name is not None else {"detectron2": "d2"}.get(name, name)
            prefix = colored("[%(asctime)s %(name)s]: ", "green")
            formatter = _ColorfulFormatter(prefix + "%(message)s", datefmt=_DATE, root_name=name, abbrev_name=short)
        _add_handler(logger, logging.StreamHandler(stream=sys.stdout), formatter)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        if distributed_rank > 0:
            path += f".rank{distributed_rank}"
        PathManager.mkdirs(os.path.dirname(path) or ".")
        _add_handler(logger, logging.StreamHandler(_open_log(path)), plain)
    return logger


def _add_handler(logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter) -> None:
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(formatter)
    logger.addHandler(handler)


@functools.lru_cache  # loggers with the same file share it
def _open_log(path: str):
    stream = PathManager.open(path, "a", buffering=1 if "://" not in path else 1024)
    atexit.register(stream.close)
    return stream


_counts: Counter = Counter()
_last_times: dict = {}


def _caller() -> tuple[str, tuple]:
    """Module name, and a key for the line of code, of the first frame outside this module."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    code = frame.f_code
    module = frame.f_globals["__name__"]
    # The script itself logs under the package's name, so that it shares the package's handlers.
    return ("detectron2" if module == "__main__" else module), (code.co_filename, frame.f_lineno, code.co_name)


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: str | tuple = "caller") -> None:
    """Log only the first ``n`` times.

    Args:
        lvl: the logging level.
        name: the logger; the caller's module by default.
        key: what counts as the same message: "caller" (the line of code), "message", or a tuple of both.
    """
    module, line = _caller()
    keys = (key,) if isinstance(key, str) else key
    assert keys and set(keys) <= {"caller", "message"}, f"key must be 'caller', 'message' or both, got {key}"
    identity = (line if "caller" in keys else ()) + ((msg,) if "message" in keys else ())
    _counts[identity] += 1
    if _counts[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log once every ``n`` calls from the same line of code, starting with the first."""
    module, line = _caller()
    _counts[line] += 1
    if n == 1 or _counts[line] % n == 1:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log at most once in ``n`` seconds from the same line of code."""
    module, line = _caller()
    now = time.time()
    last = _last_times.get(line)
    if last is None or now - last >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _last_times[line] = now


def create_small_table(small_dict: Mapping) -> str:
    """A table with one row: the dict's keys as headers, its values below. For few items only."""
    return tabulate(
        [list(small_dict.values())],
        headers=list(small_dict),
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )
