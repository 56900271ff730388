"""Files and folders of labels; folders that appear whole or not at all."""

from __future__ import annotations

import mmap
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from PIL import Image

from vis_core.data.frame_source import IMAGE_SUFFIXES, natural_key
from vis_core.data.image_pixels import UNREADABLE
from vis_core.data.paths import inside
from vis_core.errors import DataError


def relative_name(path: Path, root: Path) -> str:
    """``path`` below ``root``, with ``/``."""
    return path.relative_to(root).as_posix()


def list_files(folder: Path, suffixes: tuple[str, ...], recursive: bool = False) -> list[Path]:
    """Files with one of the suffixes, none of them hidden, in natural order. Links out of ``folder`` are refused."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    files = [
        path
        for path in found
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    for path in files:
        inside(folder, relative_name(path, folder), str(folder))
    return sorted(files, key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts])


def list_images(folder: Path) -> list[Path]:
    """Images of a folder in natural order, none if there is no such folder."""
    return list_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []


def by_folder(files: list[Path]) -> dict[Path, list[Path]]:
    """Files by the folder they lie in, order kept."""
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    return folders


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from an image's header. Raises DataError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise DataError(f"{path}: no such frame") from None
    except UNREADABLE as e:
        raise DataError(f"{path}: cannot be read as an image ({e})") from None


def has_list(path: Path, field: str) -> bool:
    """Whether a json file has a list under ``field``, found without parsing it."""
    return _holds(path, rb'"%s"\s*:\s*\[' % field.encode())


def has_field(path: Path, field: str) -> bool:
    """Whether a json file, which may be damaged, has a ``field``."""
    return _holds(path, rb'"%s"\s*:' % field.encode())


def _holds(path: Path, pattern: bytes) -> bool:
    try:
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return re.search(pattern, content) is not None
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` when the block ends well and vanishes otherwise.

    Raises DataError if ``path`` exists and is not an empty folder, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: exists already; name a new folder, or remove this one first")
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        yield partial
        partial.chmod(0o755)  # mkdtemp makes private folders
        partial.replace(path)
    except OSError as e:
        raise DataError(f"{path}: cannot be written ({e.strerror or e})") from e
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def new_file(root: Path, name: str) -> Path:
    """Path of a file to be written below ``root``, its folder made."""
    path = inside(root, name, "output")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def copy_frame(frames: Path, file_name: str, root: Path, name: str) -> None:
    """Copy a frame to ``root / name``, keeping its own suffix."""
    source = inside(frames, file_name, "frames")
    if not source.is_file():
        raise DataError(f"{source}: no such frame (is {frames} the folder that the file names are relative to?)")
    shutil.copyfile(source, new_file(root, name + PurePosixPath(file_name).suffix))
