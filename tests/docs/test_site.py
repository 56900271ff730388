"""The documentation's site builds without a warning: links, anchors and pages are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.site_hooks import NOTEBOOK, SOURCES, on_page_markdown

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_of_other_files_are_built(site: Path) -> None:
    for page in [*SOURCES, "quickstart.md", "configuration.md", "architecture.md"]:
        assert (site / page).with_suffix(".html").stat().st_size > 5000, page
    assert (site / "images" / "demo.jpg").is_file()
    assert (site / Path(NOTEBOOK).name).is_file()
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_other_servers(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, page


def page_of(name: str):
    class File:
        src_uri = name

    class Page:
        file = File

    return Page


def test_links_between_files_become_links_between_pages() -> None:
    text = "[a](config.py) [b](../../docs/host.md#x) [c](https://x.org) [d](../ctvis/README.md) [e](#here)"
    text += "\n```\n[f](g)\n```"
    assert on_page_markdown(text, page_of("methods/vmt.md")) == (
        "`projects/vmt/config.py` [b](../host.md#x) [c](https://x.org) [d](ctvis.md) [e](#here)\n```\n[f](g)\n```"
    )
    link = "[data](../datasets/README.md) ![demo](images/demo.jpg)"
    assert on_page_markdown(link, page_of("index.md")) == "[data](datasets.md) ![demo](images/demo.jpg)"


def test_link_to_a_missing_file_stops_the_build() -> None:
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match=r"projects/vmt/README\.md: link to nowhere\.py"):
        on_page_markdown("[x](nowhere.py)", page_of("methods/vmt.md"))
