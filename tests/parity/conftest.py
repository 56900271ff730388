import os
from pathlib import Path

import pytest
import torch

DEFAULT_ROOT = Path(__file__).resolve().parents[1] / "data" / "fixtures"


def root() -> Path:
    """Folder of the originals' numbers: VIS_FIXTURES, or the copy that comes with the tests."""
    return Path(os.environ.get("VIS_FIXTURES", DEFAULT_ROOT))


@pytest.fixture(scope="session")
def fixtures_root() -> Path:
    return root()


@pytest.fixture
def double_precision(monkeypatch):
    """Everything in float64, also what a model asks to be float32.

    Which points are least certain, or on which side of 0 a logit lies, then does not hang on the rounding of this
    machine's kernels: what is left is the rounding of the original's own run.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(previous)
