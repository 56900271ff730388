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


def _as_bytes(data: Any) -> bytes:
    """A buffer; Python 2 pickles give it as a latin1 string."""
    return data.encode("latin1") if isinstance(data, str) else data


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stands in for ``_codecs.encode``, by which old pickle protocols spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"bytes encoded as '{encoding}' instead of latin1")
    return text.encode("latin1")


class _Dtype:
    """Stands in for ``numpy.dtype``: numbers and strings only.

    numpy's own takes flags from the file that decide which of an array's bytes are taken for pointers.
    """

    def __init__(self, spec: str, *flags: Any):
        self.dtype = np.dtype(str(spec))
        if self.dtype.kind not in "biufcSU":
            raise _Refused(f"numpy arrays of dtype {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        byte_order, *composed = state[1:5]
        if any(part is not None for part in composed):
            raise _Refused("numpy arrays of composed dtypes")
        if byte_order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray):
    """An array that the pickle fills, with its dtype taken from the stand-in."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, fortran_order, data = state
        super().__setstate__((version, shape, dtype.dtype, fortran_order, _as_bytes(data)))


_ARRAY_TYPE = object()  # stands in for numpy.ndarray, which a pickle names but need not call


def _empty_array(array_type: Any, shape: tuple, dtype: Any) -> np.ndarray:
    """Stands in for numpy's ``_reconstruct``."""
    if array_type is not _ARRAY_TYPE:
        raise _Refused(f"numpy arrays of type {array_type}")
    return _Array((0,), "u1")


def _array_from_buffer(buffer: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    """Stands in for numpy's ``_frombuffer``, which pickle protocol 5 uses."""
    return np.frombuffer(buffer, dtype=dtype.dtype).reshape(shape, order=order)


def _scalar(dtype: _Dtype, data: Any) -> np.generic:
    """Stands in for numpy's ``scalar``."""
    return np.frombuffer(_as_bytes(data), dtype=dtype.dtype, count=1)[0]


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
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _Dtype,
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
