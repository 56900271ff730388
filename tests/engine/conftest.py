import pytest
from small_config import small_config


@pytest.fixture
def small_run(tmp_path_factory):
    """A function: (output folder, KEY, VALUE, ...) -> config of a small run."""
    data = tmp_path_factory.getbasetemp() / "engine_data"
    return lambda out, *options: small_config(data, out, *options)
