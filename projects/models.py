"""The models that can be called by a short name: ``projects/<method>/models.yaml`` lists each method's.

An entry names a config below ``configs/`` and a weights file. Where the file is published stands in ``url`` (with its
``sha256``) if it is known here, otherwise in ``page`` in words.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from projects.defaults import default_config
from vis_core.config import merge_config
from vis_core.errors import CheckpointError, ConfigError

FOLDER = Path(__file__).resolve().parent
# In a checkout, and where the project was installed (setup.py).
CONFIGS = next((path for path in (FOLDER.parent / "configs", FOLDER / "configs") if path.is_dir()), FOLDER / "configs")
FIELDS = ("config", "weights", "page", "url", "sha256", "note")


@dataclass(frozen=True)
class Model:
    """A config and its trained weights.

    Attributes:
        alias: the short name, ``<method>-<backbone>-<data set>``.
        method: folder below ``projects/``.
        config_name: file below ``configs/``.
        weights: file name in :func:`weights_folder`. Weights that come with the project lie in
            ``projects/<method>/weights`` instead, under the config's name.
        page: where the weights are published, in words; "" if nobody has published any.
        url, sha256: address and checksum of the file, "" where not known.
        note: one line about it.
    """

    alias: str
    method: str
    config_name: str
    weights: str
    page: str = ""
    url: str = ""
    sha256: str = ""
    note: str = ""

    @property
    def config_file(self) -> Path:
        """Where the config is, in a checkout or as installed."""
        return CONFIGS / self.config_name

    def config(self, opts: list[str] | None = None) -> CfgNode:
        """The default config with the model's file and ``KEY, VALUE, ...`` merged in."""
        return merge_config(default_config(), self.config_file, opts)

    def find_weights(self) -> Path | None:
        """The weights file where there is one."""
        return next((path for path in self._places() if path.is_file()), None)

    def weights_file(self) -> Path:
        """Raises CheckpointError, which says where the weights can be had, if they are not there."""
        found = self.find_weights()
        if found is None:
            raise CheckpointError(f"model {self.alias}: no weights at {self.target()}; {self.how_to_get()}")
        return found

    def target(self) -> Path:
        """Where a download goes."""
        return self._places()[-1]

    def how_to_get(self) -> str:
        """One line: what to do where the weights are missing."""
        if self.url:
            return f"published at {self.url}: vis model get {self.alias}"
        if self.page:
            return f"published by {self.page}: get them there and save them under this name"
        return f"nobody has published any: train them with vis train --model {self.alias}"

    def _places(self) -> list[Path]:
        shipped = FOLDER / self.method / "weights" / Path(self.config_name).with_suffix(".pth").name
        return [shipped, weights_folder() / self.weights]


def weights_folder() -> Path:
    """Where weights are kept: ``$VIS_WEIGHTS``, or ``weights`` in the current folder, as the configs have it."""
    return Path(os.environ.get("VIS_WEIGHTS", "weights"))


@cache
def known_models() -> dict[str, Model]:
    """All models by alias, in the order of the files. Raises ConfigError for a faulty list."""
    models: dict[str, Model] = {}
    for file in sorted(FOLDER.glob("*/models.yaml")):
        for alias, entry in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items():
            _check_entry(f"{file}: entry {alias}", entry)
            if alias in models:
                raise ConfigError(f"{file}: entry {alias}: alias is defined twice")
            rest = {key: str(value) for key, value in entry.items() if key != "config"}
            models[alias] = Model(alias, file.parent.name, entry["config"], **rest)
    return models


def _check_entry(where: str, entry: dict) -> None:
    for field in ("config", "weights"):
        if field not in entry:
            raise ConfigError(f"{where}: missing '{field}'")
    for field in entry:
        if field not in FIELDS:
            raise ConfigError(f"{where}: unknown field '{field}' (allowed: {', '.join(FIELDS)})")


def find_model(alias: str) -> Model:
    """The model of that name. Raises ConfigError, with the nearest known name, if there is none."""
    models = known_models()
    if alias not in models:
        close = difflib.get_close_matches(alias, models, n=3)
        hint = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise ConfigError(f"unknown model '{alias}'{hint}: vis model list shows all")
    return models[alias]
