"""The one checkpoint loader: our own files, Detectron2's, and every foreign file that a method has rules for."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from detectron2.checkpoint import DetectionCheckpointer

from vis_core.atomic import write_text
from vis_core.checkpoint.converters import find_converter
from vis_core.checkpoint.files import WEIGHT_FIELDS, read_checkpoint, weights_of, write_checkpoint
from vis_core.errors import CheckpointError

logger = logging.getLogger(__name__)

TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar", ".safetensors")


class VideoCheckpointer(DetectionCheckpointer):
    """Loads weights safely and says when they do not fit; writes atomically.

    Model-zoo ``.pkl`` files and paths with a ``?matching_heuristics`` query go Detectron2's way.
    """

    def __init__(self, model, save_dir: str = "", *, require_all: bool = False, **kwargs: Any):
        """
        Args:
            model: module, possibly wrapped for distributed training.
            save_dir: where checkpoints are written.
            require_all: refuse a file that does not fill every tensor of the model, as inference needs. Otherwise a
                file may hold a part (an ImageNet backbone, another number of classes), but must share at least half
                of its tensors, or half of the model's, with the model.
            kwargs: as for DetectionCheckpointer: ``save_to_disk`` and checkpointables.
        """
        super().__init__(model, save_dir, **kwargs)
        self._require_all = require_all
        self._path = ""
        self._match_tails = False  # the query of the path being loaded
        self._resuming = False

    def load(self, path: str, *args, **kwargs) -> dict[str, Any]:
        """As DetectionCheckpointer's. Raises CheckpointError for a missing, unreadable or unfitting file."""
        self._path = path
        self._match_tails = _asks_for_heuristics(path)
        if path and "://" not in path and not Path(path.partition("?")[0]).is_file():
            raise CheckpointError(f"weights file not found: {path}")
        try:
            return super().load(path, *args, **kwargs)
        except (OSError, pickle.UnpicklingError, ValueError, AssertionError) as e:
            # PyTorch's message may go on for a page.
            reason = str(e).split(". ")[0].splitlines()[0] if str(e) else type(e).__name__
            raise CheckpointError(f"{path}: weights could not be read or fetched: {reason}") from e

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As DetectionCheckpointer's. Raises CheckpointError also for a run to go on with whose model was another one:
        its optimizer's state would not fit."""
        self._resuming = resume and self.has_checkpoint()
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self._resuming = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth`` and point ``last_checkpoint`` to it; a killed process leaves no half file."""
        if not self.save_dir or not self.save_to_disk:
            return
        contents = {"model": self.model.state_dict()}
        contents.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        contents.update(kwargs)
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving checkpoint to %s", path)
        write_checkpoint(contents, path)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(last_filename_basename, Path(self.save_dir) / "last_checkpoint")

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(TORCH_SUFFIXES):
            return super()._load_file(filename)
        contents = read_checkpoint(filename)
        weights = weights_of(contents, filename)
        # Official Detectron2 reads the query in its own _load_file only.
        heuristics = {"matching_heuristics": True} if self._match_tails else {}
        converter = find_converter(weights.keys())
        if converter is not None:
            logger.info("%s: recognised as %s", filename, converter.name)
            # What else a foreign file holds (its optimizer, its iteration) means nothing here.
            return {"model": converter.convert(weights), **heuristics}
        rest = {key: value for key, value in contents.items() if key not in WEIGHT_FIELDS and key not in weights}
        return {**rest, "model": weights, **heuristics}

    def _load_model(self, checkpoint: Any):
        num_file = len(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        wrong_shape = [key for key, *_ in incompatible.incorrect_shapes]
        missing = [key for key in incompatible.missing_keys if key not in wrong_shape]
        if self._resuming and not self._require_all and (missing or incompatible.incorrect_shapes):
            raise CheckpointError(
                f"{self._path}: was trained with another model ({_first_difference(incompatible, missing)}): start "
                "without --resume, with this file as MODEL.WEIGHTS and another OUTPUT_DIR, or go back to its config"
            )
        num_model = len(self.model.state_dict())
        num_used = num_file - len(incompatible.unexpected_keys) - len(wrong_shape)
        if self._require_all and (missing or wrong_shape):
            raise CheckpointError(
                f"{self._path}: does not fit {_name(self.model)}: {len(missing)} of {num_model} tensors missing"
                f"{_examples(missing)}, {len(wrong_shape)} of another shape{_examples(wrong_shape)}; "
                "is this the config, with the number of classes, that they were trained with?"
            )
        if 2 * num_used < min(num_file, num_model):
            raise CheckpointError(
                f"{self._path}: not weights for {_name(self.model)}: only {num_used} of its {num_file} tensors fit; "
                f"unknown are{_examples(incompatible.unexpected_keys)}"
            )
        return incompatible


def _asks_for_heuristics(path: str) -> bool:
    """Whether ``path`` ends in ``?matching_heuristics=True``. Raises CheckpointError for any other query."""
    query = parse_qs((path or "").partition("?")[2])
    heuristics = query.pop("matching_heuristics", ["False"]) == ["True"]
    if query:
        raise CheckpointError(f"{path}: unknown query '{', '.join(query)}'; only matching_heuristics=True is known")
    return heuristics


def _first_difference(incompatible, missing: list[str]) -> str:
    """What is different about the first tensor that does not fit."""
    for name, in_file, in_model in incompatible.incorrect_shapes:
        return f"{name} has shape {tuple(in_file)}, now {tuple(in_model)}"
    return f"{missing[0]} is not in it"


def _name(model) -> str:
    return type(model).__name__


def _examples(keys: list[str]) -> str:
    if not keys:
        return ""
    return f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
