"""From any format to any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vis_core.data.formats.labels import Labels, ReadOptions, WriteOptions, complete, restrict_classes
from vis_core.data.formats.paths import new_folder
from vis_core.data.formats.registry import detect_format, format_named
from vis_core.data.paths import inside
from vis_core.errors import DataError

# What reading values of an unexpected form or size raises.
_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)


def read_labels(
    source: Path,
    from_format: str | None = None,
    options: ReadOptions | None = None,
    class_names: Sequence[str] | None = None,
) -> Labels:
    """Labels of a file or folder, with all ids.

    Args:
        from_format: its format; None: found out.
        class_names: the classes there are to be, with ids from 1; None: those of the source.

    Raises DataError for what cannot be used.
    """
    options = options or ReadOptions()
    form = format_named(from_format or detect_format(source), "--from")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if form.is_file and source.is_dir():
        raise DataError(f"{source}: is a folder, expected a {form.title}")
    try:
        labels = form.read(source, options)
    except _MALFORMED as e:  # what nobody thought of checking, in a file from somewhere else
        raise DataError(f"{source}: is not the {form.title} it looks like ({type(e).__name__}: {e})") from e
    if class_names:
        restrict_classes(labels, class_names)
    try:
        return complete(labels)
    except DataError as e:
        raise DataError(f"{source}: {e}") from None


def write_labels(labels: Labels, out: Path, to_format: str = "ytvis", options: WriteOptions | None = None) -> None:
    """Write ``labels`` to the file, or new folder, ``out``: whole or not at all. Adds to ``labels.notes``."""
    form, options = format_named(to_format, "--to"), options or WriteOptions()
    for video in labels.videos:
        inside(out, video.name, f"video {video.id}")
    if not form.is_file:
        with new_folder(out) as partial:
            form.write(labels, partial, options)
        return
    if out.is_dir():
        raise DataError(f"{out}: is a folder; {form.title} is one file, name it with .json")
    if options.frames:
        raise DataError(f"--copy-frames: {form.title} is one file without a place for frames")
    form.write(labels, out, options)
