"""The one way in which json files are read."""

from __future__ import annotations

import json
from pathlib import Path

from vis_core.errors import DataError


def read_json(path: str | Path) -> object:
    """Contents of a json file in UTF-8, with or without the byte order mark that Windows tools write before it.

    Raises DataError naming ``path`` if there is none or it is broken.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid json ({e})") from e
