"""Reads model-zoo ``.pkl`` files without running any code that they name.

A pickle may call any importable function. The reader below knows a short list of names, all of which build plain
data: numpy arrays and scalars, and builtin containers. A file that names anything else is refused.
"""

import builtins
import collections
import os
import pickle
from typing import Any

import numpy as np


class _Refused(pickle.UnpicklingError):
    """The file asks for something other than plain data."""


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stands in for ``_codecs.encode``, by which old pickle protocols spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"bytes encoded as '{encoding}' instead of latin1")
    return text.encode("latin1")


def _plain_dtype(spec: Any, *flags: Any) -> np.dtype:
    """``numpy.dtype`` without object types, whose elements would be pickles again."""
    dtype = np.dtype(spec, *flags)
    if dtype.hasobject:
        raise _Refused(f"numpy arrays of Python objects (dtype {dtype})")
    return dtype


def _empty_array(array_type: type, shape: tuple, dtype: Any) -> np.ndarray:
    """Stands in for numpy's ``_reconstruct``: an empty array that the pickle then fills."""
    if array_type is not np.ndarray:
        raise _Refused(f"numpy arrays of type {array_type}")
    return np.ndarray.__new__(np.ndarray, (0,), _plain_dtype(dtype))


def _array_from_buffer(buffer: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    """Stands in for numpy's ``_frombuffer``, which pickle protocol 5 uses."""
    return np.frombuffer(buffer, dtype=_plain_dtype(dtype)).reshape(shape, order=order)


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    """Stands in for numpy's ``scalar``."""
    return np.frombuffer(data, dtype=_plain_dtype(dtype), count=1)[0]


_BUILTINS = (
    "dict",
    "list",
    "tuple",
    "set",
    "frozenset",
    "bytearray",
    "bytes",
    "str",
    "int",
    "float",
    "bool",
    "complex",
)
_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _plain_dtype,
    # Python 2 and 3 names of the builtins
    **{(module, name): getattr(builtins, name) for module in ("builtins", "__builtin__") for name in _BUILTINS},
    # numpy < 2 and >= 2
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_from_buffer for core in ("core", "_core")},
}


class _PlainDataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"the global '{module}.{name}'")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """The content of a pickle file of numpy arrays and builtin containers (Python 2 strings read as latin1).

    Raises:
        pickle.UnpicklingError: the file names a global that is not plain data (the message names file and global),
            or it is no pickle at all.
    """
    with open(path, "rb") as file:
        try:
            return _PlainDataUnpickler(file, encoding="latin1").load()
        except _Refused as error:
            raise pickle.UnpicklingError(
                f"{os.fspath(path)}: refused {error}; only numpy arrays and builtin containers are read from a .pkl"
            ) from None
        except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise pickle.UnpicklingError(f"{os.fspath(path)}: not a readable pickle ({error})") from error
