"""Reading and writing checkpoint files: nothing from a file is executed, and a file is whole or absent."""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from vis_core.atomic import replacing
from vis_core.errors import CheckpointError

logger = logging.getLogger(__name__)

# Where released files keep their weights, in the order in which they are tried.
WEIGHT_FIELDS = ("model", "state_dict", "model_state_dict", "module")


def read_checkpoint(path: str | Path) -> dict:
    """Read a ``.pth``/``.pt`` or ``.safetensors`` file to a dict of its contents, on the CPU.

    Only tensors, arrays and plain containers come back. Any other object that a released file carries beside its
    weights (an argparse Namespace, a training log) is replaced by an inert placeholder: its class is never looked up,
    let alone run. Raises CheckpointError for a missing, truncated or foreign file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"weights file not found: {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        contents = _load_inert(path)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as e:
        reason = str(e).split(". ")[0].splitlines()[0] if str(e) else type(e).__name__
        raise CheckpointError(f"{path}: cannot be read as a PyTorch checkpoint (truncated or not one): {reason}") from e
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path}: expected a dict of weights, found {type(contents).__name__}")
    return contents


def weights_of(contents: dict, path: str | Path = "checkpoint") -> dict[str, torch.Tensor]:
    """The ``{key: tensor}`` part of a checkpoint's contents, whatever the field is called.

    Arrays become tensors. Raises CheckpointError if the file holds no weights.
    """
    for field in WEIGHT_FIELDS:
        if isinstance(contents.get(field), dict):
            contents = contents[field]
            break
    weights = OrderedDict(
        (key, torch.from_numpy(value) if isinstance(value, np.ndarray) else value)
        for key, value in contents.items()
        if isinstance(value, (torch.Tensor, np.ndarray))
    )
    if not weights:
        raise CheckpointError(f"{path}: holds no weights (looked for fields {', '.join(WEIGHT_FIELDS)})")
    if hasattr(contents, "_metadata"):  # module versions, which decide how old states are read
        weights._metadata = contents._metadata
    return weights


def write_checkpoint(contents: dict, path: str | Path) -> None:
    """``torch.save`` that leaves either the whole new file or the old state, even if the process is killed.

    Raises DataError if the place cannot be written.
    """
    with replacing(path) as partial, partial.open("wb") as f:
        try:
            torch.save(contents, f)
        except RuntimeError as e:  # PyTorch fails to close the archive after the file refused to grow
            if isinstance(e.__context__, OSError):
                raise OSError(*e.__context__.args) from e
            raise
        f.flush()
        os.fsync(f.fileno())


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except SafetensorError as e:
        raise CheckpointError(f"{path}: not a valid safetensors file: {e}") from e


class _Inert:
    """Stands in for an object of a class that we do not load; swallows whatever state the file gives it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


# How PyTorch's weights-only unpickler names a class that it does not know.
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")

# Arrays and numpy scalars: data, not code.
_NUMPY_GLOBALS = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")},
    np.ndarray(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    codecs.encode,
]


def _placeholder(name: str) -> type:
    """An inert class that the unpickler takes for ``module.name``."""
    module, _, qualname = name.rpartition(".")
    return type(qualname, (_Inert,), {"__module__": module})


def _numpy_aliases() -> list:
    """The same functions under the module names of numpy 1 and 2 (torch >= 2.6 knows such pairs)."""
    functions = {"_reconstruct": np.ndarray(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [(function, f"{module}.{name}") for module in modules for name, function in functions.items()]


@contextlib.contextmanager
def _safe_globals(admitted: list):
    serialization = torch.serialization
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= (2, 6):
        admitted = [*admitted, *_numpy_aliases()]
    if hasattr(serialization, "safe_globals"):
        with serialization.safe_globals(admitted):
            yield
        return
    before = list(serialization.get_safe_globals())  # torch 2.4, which hands out its own list
    serialization.add_safe_globals(admitted)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _load_inert(path: Path) -> object:
    """``torch.load(weights_only=True)`` that retries with a placeholder under each class name it refuses."""
    foreign: list[str] = []
    while True:
        admitted = [*_NUMPY_GLOBALS, *[_placeholder(name) for name in foreign]]
        try:
            with _safe_globals(admitted):
                contents = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as e:
            refused = _REFUSED_GLOBAL.search(str(e))
            if refused is None:
                raise
            # The message leaves the module of builtins out.
            name = refused[1] if "." in refused[1] else f"builtins.{refused[1]}"
            if name in foreign:
                raise
            foreign.append(name)
            continue
        if foreign:
            logger.info("%s: objects of %s are left out (not weights)", path, ", ".join(sorted(foreign)))
        return contents
