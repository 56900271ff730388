"""The config node: yacs, plus fvcore's ``_BASE_`` files, plus a format version."""

import logging

from detectron2.utils.file_io import PathManager
from fvcore.common.config import CfgNode as _CfgNode

# Keys that exist only in files of format version 1.
_VERSION_1_KEYS = (("MODEL", "WEIGHT"), ("TEST", "AUG_ON"))


class CfgNode(_CfgNode):
    """A node of a config tree: a dict whose items are also attributes, with type-checked merging."""

    @classmethod
    def _open_cfg(cls, filename):
        return PathManager.open(filename, "r")

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a yaml file, with the files its ``_BASE_`` key names, into this config.

        Args:
            cfg_filename: path or URL.
            allow_unsafe: fall back to unsafe yaml, which can run code, when the file holds python tags.

        Raises:
            AssertionError: if the file is missing or this config is not of the current format version.
            KeyError: for a key that this config does not have.
            ValueError: for a value of another type, or a file of an older format version.
        """
        assert PathManager.isfile(cfg_filename), f"Config file '{cfg_filename}' does not exist"
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        latest = get_cfg().VERSION
        assert latest == self.VERSION, f"files merge only into a config of format version {latest}"
        version = loaded.get("VERSION")
        if version is None:
            version = _guess_version(loaded, cfg_filename, latest)
        assert version <= latest, f"{cfg_filename}: VERSION {version} is newer than {latest}"
        if version < latest:
            raise ValueError(
                f"{cfg_filename}: config format version {version}; this bundled subset of detectron2 reads only "
                f"version {latest} (the official package can upgrade older files)"
            )
        self.merge_from_other_cfg(loaded)


def _guess_version(loaded: CfgNode, filename: str, latest: int) -> int:
    if any(key in loaded.get(section, {}) for section, key in _VERSION_1_KEYS):
        return 1
    logging.getLogger(__name__).warning(f"Config '{filename}' has no VERSION; taken as the current version {latest}.")
    return latest


global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """A fresh copy of the default config."""
    from .defaults import _C

    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Make :data:`global_cfg` hold the items of ``cfg``.

    The object stays the same, so ``from detectron2.config import global_cfg`` sees the change everywhere.
    """
    global_cfg.clear()
    global_cfg.update(cfg)
