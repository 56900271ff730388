"""The project-wide path manager: local paths, http(s) and ``detectron2://``."""

from iopath.common.file_io import HTTPURLHandler, OneDrivePathHandler, PathHandler
from iopath.common.file_io import PathManager as PathManagerBase

__all__ = ["PathHandler", "PathManager"]

PathManager = PathManagerBase()


class _ModelZooHandler(PathHandler):
    """``detectron2://x`` is ``x`` in the official package's download area, cached locally."""

    PREFIX = "detectron2://"
    BASE_URL = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self):
        return [self.PREFIX]

    def _get_local_path(self, path, **kwargs):
        return PathManager.get_local_path(self.BASE_URL + path[len(self.PREFIX) :], **kwargs)

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        return open(self._get_local_path(path), mode, buffering=buffering)


PathManager.register_handler(HTTPURLHandler())
PathManager.register_handler(OneDrivePathHandler())
PathManager.register_handler(_ModelZooHandler())
