"""Data sets that a config brings along, without a line of Python: ``DATASETS.CUSTOM``."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from vis_core.data.catalog import register_ytvis
from vis_core.errors import ConfigError

FIELDS = ("NAME", "JSON", "FRAMES")


def register_custom(cfg: CfgNode) -> None:
    """Register every data set of ``DATASETS.CUSTOM`` under its name; those that are there already stay.

    Each is a dict of NAME, JSON (labels in the YouTube-VIS form) and FRAMES (the folder that its file names are
    relative to); paths are relative to the working folder. No file is read before the data set is used.

    Raises ConfigError for an entry of another form, or a name under which something else is registered.
    """
    for number, entry in enumerate(cfg.DATASETS.CUSTOM):
        where = f"DATASETS.CUSTOM, entry {number + 1}"
        if not isinstance(entry, dict) or set(entry) != set(FIELDS):
            raise ConfigError(f"{where}: expected {{NAME: ..., JSON: ..., FRAMES: ...}}, found {entry}")
        if not all(isinstance(entry[field], str) and entry[field] for field in FIELDS):
            raise ConfigError(f"{where}: NAME, JSON and FRAMES have to be texts, found {entry}")
        name, files = entry["NAME"], (entry["JSON"], entry["FRAMES"])
        if name not in DatasetCatalog.list():
            register_ytvis(name, *files)
        elif (MetadataCatalog.get(name).get("json_file"), MetadataCatalog.get(name).get("image_root")) != files:
            raise ConfigError(f"{where}: another data set is called '{name}' already; choose another NAME")
