import os
from pathlib import Path

import pytest

DEFAULT_ROOT = Path(__file__).resolve().parents[1] / "data" / "fixtures"


def root() -> Path:
    """Folder of the originals' numbers: VIS_FIXTURES, or the copy that comes with the tests."""
    return Path(os.environ.get("VIS_FIXTURES", DEFAULT_ROOT))


@pytest.fixture(scope="session")
def fixtures_root() -> Path:
    return root()
