"""Loops compiled by numba at first use."""

from __future__ import annotations

import numba


def compiled(function=None, **options):
    """numba.njit without the GIL, with an on-disk cache wherever some folder can be written."""
    if function is None:
        return lambda function: compiled(function, **options)
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder is writable
        return numba.njit(nogil=True, **options)(function)
