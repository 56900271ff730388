"""The checkpointer of models: ``.pth`` of our own, and the ``.pkl`` files of the model zoo."""

import os
from typing import Any
from urllib.parse import parse_qs

import torch
from detectron2.checkpoint.caffe2_names import from_caffe2_state
from detectron2.checkpoint.name_matching import rename_to_model_keys
from detectron2.checkpoint.safe_pickle import load_plain_pickle
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import Checkpointer

# Constants of the config, not weights; older files hold them, newer ones do not.
_CONSTANT_BUFFERS = ("pixel_mean", "pixel_std")
_ANCHORS = "anchor_generator.cell_anchors"


class DetectionCheckpointer(Checkpointer):
    """Saves on the main process and loads what the model zoo and this API write.

    * ``.pth``: a dict with ``"model"``, or a bare state dict; read with ``weights_only=True``.
    * ``.pkl``: ``{"model": {name: array}, "__author__": ...}``, or Caffe2 blobs, whose names are translated; read
      without running code (:mod:`detectron2.checkpoint.safe_pickle`).

    Names are matched by their tails when the file says ``matching_heuristics`` or the path ends in
    ``?matching_heuristics=True``. Loading is never strict: what is missing, left over or of another shape is logged.

    Args:
        model: a module; a data-parallel wrapper is taken off.
        save_dir: folder of the checkpoints and of ``last_checkpoint``.
        save_to_disk: whether this process writes; ``None`` means the main process only.
        checkpointables: further objects with ``state_dict`` and ``load_state_dict``, by name.
    """

    def __init__(
        self, model: torch.nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ):
        writes = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=writes, **checkpointables)
        self.path_manager = PathManager
        self._force_heuristics = False  # the query of the path being loaded

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a file; see :class:`Checkpointer`. An empty path loads nothing.

        Args:
            path: file or address, perhaps with ``?matching_heuristics=True``.
            checkpointables: which of them to load beside the model; ``None`` means all that the file has.

        Returns:
            what the file holds besides.

        Raises:
            AssertionError: there is no such file.
            ValueError: a query other than ``matching_heuristics``, or a file that is not a dict.
            pickle.UnpicklingError: the file holds more than tensors and plain data.
        """
        path, self._force_heuristics = _split_query(os.fspath(path))
        return super().load(path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return _read_pickle(filename) if filename.endswith(".pkl") else _read_torch(filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        # here and not in _load_file, so that it also holds for subclasses that read files of their own
        if self._force_heuristics:
            checkpoint["matching_heuristics"] = True
        if checkpoint.get("matching_heuristics", False):
            state = checkpoint["model"]
            self._convert_ndarray_to_tensor(state)
            if checkpoint.get("__author__") == "Caffe2":
                state = from_caffe2_state(state)
            checkpoint["model"] = rename_to_model_keys(self.model.state_dict(), state)

        incompatible = super()._load_model(checkpoint)
        buffers = dict(self.model.named_buffers(recurse=False))
        for name in _CONSTANT_BUFFERS:
            if name in buffers and name in incompatible.missing_keys:
                incompatible.missing_keys.remove(name)
        incompatible.unexpected_keys[:] = [
            key for key in incompatible.unexpected_keys if key not in _CONSTANT_BUFFERS and _ANCHORS not in key
        ]
        return incompatible


def _split_query(path: str) -> tuple[str, bool]:
    """``"w.pth?matching_heuristics=True"`` → ``("w.pth", True)``; a file whose own name has a ``?`` is left alone."""
    base, mark, query = path.partition("?")
    if not mark or os.path.isfile(path):
        return path, False
    values = parse_qs(query)
    heuristics = values.pop("matching_heuristics", ["False"]) == ["True"]
    if values:
        raise ValueError(f"{path}: unknown query '{', '.join(values)}'; only matching_heuristics=True is known")
    return base, heuristics


def _read_torch(filename: str) -> dict[str, Any]:
    loaded = torch.load(filename, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"{filename}: expected a dict of weights, found {type(loaded).__name__}")
    return loaded if "model" in loaded else {"model": loaded}


def _read_pickle(filename: str) -> dict[str, Any]:
    data = load_plain_pickle(filename)
    if not isinstance(data, dict):
        raise ValueError(f"{filename}: expected a dict of weights, found {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    model = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
