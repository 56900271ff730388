"""Every config key is explained beside its default, and the page shows both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from docs.config_page import as_html, config_page
from docs.config_reference import comments_at, read_keys
from projects import default_config


def leaves(node: CfgNode, prefix: str = "") -> dict[str, object]:
    found = {}
    for name, value in node.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name: value}
    return found


@pytest.fixture(scope="module")
def page() -> str:
    return config_page()


def test_all_keys_of_this_project_are_found() -> None:
    official, ours = leaves(get_cfg()), leaves(default_config())
    keys, _ = read_keys()
    assert {key.name for key in keys if not key.official} == ours.keys() - official.keys()
    changed = {name for name, value in official.items() if ours[name] != value}
    # Set by this project although the value may be the same on this machine.
    assert changed <= {key.name for key in keys if key.official} <= changed | {"MODEL.DEVICE"}
    assert all(ours[key.name] == key.default for key in keys)


def test_every_key_is_explained() -> None:
    keys, _ = read_keys()
    assert [key.name for key in keys if not key.explanation] == []


def test_every_key_has_its_place_on_the_page(page: str) -> None:
    keys, _ = read_keys()
    places = re.findall(r'<td id="([\w.]+)">', page)
    assert sorted(places) == sorted(key.name for key in keys)
    assert '<td><code>"similarity_guided"</code></td>' in page


def test_default_that_depends_on_the_machine_is_shown_as_it_is_written(page: str) -> None:
    row = next(line for line in page.splitlines() if 'id="MODEL.DEVICE"' in line)
    assert "if torch.cuda.is_available()" in row


SOURCE = """
def add_config(cfg):
    # About the node.
    node = cfg.NODE = CN()
    node.SILENT = 1

    # A note.

    # One, and
    # still one.
    node.ONE = 1
    node.TWO = 2
    # A heading of THREE.
    node.THREE = 3
    node.FOUR = 4  # four
    node.FIVE = [
        5,
    ]
"""


def test_rules_of_comments(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(SOURCE)
    lines = SOURCE.splitlines()
    at = {
        line.split()[0].removeprefix("node."): number
        for number, line in enumerate(lines, 1)
        if line.startswith("    node.")
    }
    said = {name: comments_at(file, line) for name, line in at.items()}
    assert comments_at(file, 4).above == "About the node."
    assert said["SILENT"].above == ""
    assert (said["ONE"].above, said["ONE"].note) == ("One, and\nstill one.", "A note.")
    assert said["TWO"].first == said["ONE"].line
    assert said["FOUR"].beside == "four"
    assert said["FIVE"].above == "A heading of THREE."
    assert comments_at(file, at["FIVE"] + 1) == said["FIVE"]


def test_comment_as_html() -> None:
    text = 'What <it> is, by\nSIZE:\n  "small"   with MODEL.X_Y\n  "large"   see a/b.py'
    assert as_html(text, {"SIZE"}) == (
        "What &lt;it&gt; is, by <code>SIZE</code>:"
        '<br><code>"small"</code> with <code>MODEL.X_Y</code>'
        '<br><code>"large"</code> see <code>a/b.py</code>'
    )
