import contextlib
import os
from pathlib import Path
from unittest import mock

import pytest
import torch

DEFAULT_ROOT = Path(__file__).resolve().parents[1] / "data" / "fixtures"


def root() -> Path:
    """Folder of the originals' numbers: VIS_FIXTURES, or the copy that comes with the tests."""
    return Path(os.environ.get("VIS_FIXTURES", DEFAULT_ROOT))


@pytest.fixture(scope="session")
def fixtures_root() -> Path:
    return root()


to_float32 = torch.Tensor.float


@contextlib.contextmanager
def everything_in_float64():
    """Also what a model asks to be float32, but for what is within :func:`what_asks_in_float32`.

    Which points are least certain, or on which side of 0 a logit lies, then does not hang on the rounding of this
    machine's kernels: what is left is the rounding of the original's own run.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield
    torch.set_default_dtype(previous)


@contextlib.contextmanager
def what_asks_in_float32():
    """What asks to be float32 is."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with mock.patch.object(torch.Tensor, "float", to_float32):
        yield
    torch.set_default_dtype(previous)


@pytest.fixture
def double_precision():
    with everything_in_float64():
        yield
