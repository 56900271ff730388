import pytest

from vis_core.host import provider  # importing vis_core makes detectron2 importable

OFFICIAL = provider() == "official"
# Tests of a module that only the bundled host has.
collect_ignore = ["host/test_checkpoint_caffe2_names.py"] if OFFICIAL else []


def pytest_collection_modifyitems(items):
    """Tests of what only the bundled host does (``bundled_only``) are skipped where the official package is in use."""
    if OFFICIAL:
        for item in items:
            if item.get_closest_marker("bundled_only"):
                item.add_marker(pytest.mark.skip(reason="about the bundled host"))
