"""Results files and the zip archives that the public servers take: one member, ``results.json``, at top level."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import zipfile
from collections.abc import Iterable

from vis_core.atomic import replacing

MEMBER = "results.json"


def write_results(entries: Iterable[dict], path: str | os.PathLike) -> None:
    """Write results entries as a json list, one entry at a time, scores unrounded; atomic."""
    with replacing(path) as name, open(name, "w", encoding="ascii") as file:
        file.write("[")
        for number, entry in enumerate(entries):
            file.write((",\n" if number else "") + json.dumps(entry, separators=(",", ":")))
        file.write("]\n")


def write_submission(results_file: str | os.PathLike, archive: str | os.PathLike) -> None:
    """Pack a results file, whatever its name, for the public servers; streams, and is atomic.

    A byte order mark, which Python's json refuses on a server, is left out.
    """
    info = zipfile.ZipInfo.from_file(results_file, MEMBER)
    info.compress_type = zipfile.ZIP_DEFLATED
    with open(results_file, "rb") as file, replacing(archive) as name, zipfile.ZipFile(name, "w") as packed:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        with packed.open(info, "w") as member:
            shutil.copyfileobj(file, member)
