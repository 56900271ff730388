"""``catalog://ImageNetPretrained/<name>``: the ImageNet weights by their short names."""

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

_PREFIX = "catalog://"
_IMAGENET = "ImageNetPretrained/"
_STORE = "detectron2://ImageNetPretrained/"
_NAMES = ("MSRA/R-50", "MSRA/R-101", "FAIR/X-101-32x8d", "torchvision/R-50", "torchvision/R-101")


def resolve(path: str) -> str:
    """``catalog://ImageNetPretrained/MSRA/R-50`` → its ``detectron2://`` address.

    Raises:
        RuntimeError: no such entry.
    """
    name = path.removeprefix(_PREFIX).removeprefix(_IMAGENET)
    if not path.startswith(_PREFIX + _IMAGENET) or name not in _NAMES:
        known = ", ".join(_PREFIX + _IMAGENET + entry for entry in _NAMES)
        raise RuntimeError(f"{path} is not in the catalog; it has {known}")
    return f"{_STORE}{name}.pkl"


class CatalogHandler(PathHandler):
    """Opens ``catalog://`` paths through the address that they stand for."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        return PathManager.get_local_path(resolve(path), force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs):
        return PathManager.open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


PathManager.register_handler(CatalogHandler())
