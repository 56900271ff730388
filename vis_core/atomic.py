"""Files that appear whole or not at all, even if the process is killed while it writes; and their folders."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vis_core.errors import DataError


def make_folder(path: str | os.PathLike) -> None:
    """Make the folder of a result before the work for it begins. Raises DataError if nothing can be written to it."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"{path}: the folder cannot be made ({e.strerror or e})") from e
    if not os.access(path, os.W_OK | os.X_OK):
        raise DataError(f"{path}: the folder cannot be written to")


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden path beside ``path``, of the same suffix, for the block to write to; the folder is made.

    The file takes the place of ``path`` when the block ends well, and vanishes otherwise. Raises DataError naming
    ``path`` if it cannot be written; errors of other files that the block opens are left as they are.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as e:
        if e.filename is not None and Path(e.filename) not in (partial, path, *path.parents):
            raise
        raise DataError(f"{path}: cannot be written ({e.strerror or e})") from e
    finally:
        with suppress(OSError):  # nothing is there if the folder could not be made
            partial.unlink()


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text file in UTF-8. Raises DataError if the place cannot be written."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(content: object, path: str | os.PathLike) -> None:
    """Write a json file. Raises DataError if the place cannot be written."""
    write_text(json.dumps(content), path)
