"""Names of frames that come out of files, kept inside their folder."""

from __future__ import annotations

import posixpath
from pathlib import Path

from vis_core.data.annotation_file import fail
from vis_core.errors import DataError


def leads_out(name: str) -> bool:
    """Whether ``name``, as it is written, is no path below its folder: absolute, or with more ".." than folders.

    Touches no file, so links below the folder may lead anywhere: data sets are often linked together.
    """
    plain = posixpath.normpath(name.replace("\\", "/"))
    return plain.startswith("/") or plain == ".." or plain.startswith("../") or "\0" in name


def below(root: str | Path, name: str, where: str, field: str) -> str:
    """``root / name``. Raises DataError naming ``where`` and ``field`` if the name :func:`leads_out`."""
    if leads_out(name):
        fail(where, field, f"{name!r} leads out of {root}; only files below it are read")
    return str(Path(root, name))


def inside(root: Path, name: str, where: str) -> Path:
    """``root / name`` for a name that came out of a file.

    Raises DataError if it leads out of ``root``: by "..", as an absolute path, or through a link.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{where}: {name!r} is not a file name")
    path = root / name.replace("\\", "/")
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{where}: '{name}' leads out of {root}; only files below it are touched")
    return path
