"""A config file before it is merged: is it yaml of sections, and where does its ``_BASE_`` lead?"""

from __future__ import annotations

from pathlib import Path

import yaml
from detectron2.config import CfgNode as CN

from vis_core.errors import ConfigError


def check_file(path: Path, cfg: CN, readers: tuple[Path, ...] = ()) -> None:
    """Check that a file, and all that its ``_BASE_`` leads to, is yaml of the sections that ``cfg`` has.

    Args:
        path: the file.
        cfg: the config that it is to be merged into.
        readers: the files whose ``_BASE_`` led here.

    Raises ConfigError naming the file: not there, broken yaml, no sections, or a loop of ``_BASE_``.
    """
    content = _read(path)
    _check_section(path, content, cfg, "")
    bases = content.get("_BASE_", [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: _BASE_: expected the path of a config file, found {base}")
        if base.startswith(("http://", "https://")):
            continue
        base_file = path.parent / Path(base).expanduser()
        if base_file.resolve() in [file.resolve() for file in (*readers, path)]:
            raise ConfigError(f"{path}: _BASE_: {base} leads back to a file that is being read")
        if not base_file.is_file():
            raise ConfigError(f"{path}: _BASE_: no such file: {base_file}")
        check_file(base_file, cfg, (*readers, path))


def _read(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise ConfigError(f"{path}: not valid yaml: {' '.join(str(e).split())}") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read ({e})") from e
    if content is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections (MODEL: ...), found {type(content).__name__}")
    return content


def _check_section(path: Path, content: dict, section: CN | None, name: str) -> None:
    """``section``: the config's own; None where it has none of this name."""
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"{path}: {name}{key}: a key has to be a text")
        known = section.get(key) if section is not None else None
        known = known if isinstance(known, CN) else None
        if isinstance(value, dict):
            _check_section(path, value, known, f"{name}{key}.")
        elif known is not None:
            raise ConfigError(f"{path}: {name}{key}: a section, which needs keys below it; found {value}")
