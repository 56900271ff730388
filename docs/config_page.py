"""The page of all config keys, made of what docs/config_reference.py reads.

``python docs/config_page.py`` prints it; ``mkdocs build`` does the same through docs/site_hooks.py.
"""

from __future__ import annotations

import ast
import html
import re
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from docs.config_reference import Comments, Key, read_keys  # noqa: E402

INTRODUCTION = """\
# Configuration

Every key that this project adds to Detectron2's, with its default. Set keys in a yaml file (`_BASE_` names the file
that it changes), or behind a command:

```bash
python train_net.py --config-file configs/ctvis/ytvis19_r50.yaml SOLVER.IMS_PER_BATCH 4 INPUT.SAMPLING_FRAME_NUM 5
vis predict my.mp4 --model ctvis-tiny-shapesvis --set MODEL.CTVIS.TRACKER.NUM_DEAD_FRAMES=50
```

A key that does not exist is refused, and the nearest one named. Detectron2's own keys keep its names and defaults, but
for [these](#detectron2s-keys-with-another-default).

*This page is made of the comments beside the defaults in the source; the file is named with each part.*
"""
CHANGED = "Detectron2's keys with another default"
TITLES = {
    "vis_core/config.py": "All methods",
    "vis_core/modeling/mmdet/config.py": "Two-stage methods",
    "vis_core/modeling/mask2former/config.py": "Mask2Former and Swin",
}
# What is code in a comment.
CODE = re.compile(
    r"\{[^}]*\}|\[\[.*?\]\]"  # yaml
    r'|"[^"\s]+"'  # values
    r"|\b[A-Z][A-Z0-9]*(?:[._][A-Z0-9]+)+\b"  # keys
    r"|\b[\w/]+(?:/[\w-]+)*\.(?:py|md)\b"  # files
    r"|\b(?:True|False)\b"
)


def config_page() -> str:
    """Markdown of the page."""
    keys, nodes = read_keys()
    names = {key.name.rpartition(".")[2] for key in keys}
    own = [key for key in keys if not key.official]
    parts = [INTRODUCTION]
    for file, of_file in groupby(own, key=lambda key: key.comments.file):
        parts.append(f"## {_title(file)}\n\n{_description(file)}\n")
        for node, of_node in _by_node(of_file).items():
            parts.append(f"### {node}\n\n" + _node_text(nodes.get(node), names) + _table(of_node, names))
    changed = [key for key in keys if key.official]
    parts.append(f"## {CHANGED}\n\n" + _table(changed, names, full_names=True))
    return "\n".join(parts)


def _title(file: Path) -> str:
    """A method's name is the title of its README."""
    readme = file.parent / "README.md"
    if readme.is_file():
        return readme.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return TITLES[str(file.relative_to(ROOT))]


def _description(file: Path) -> str:
    """The first paragraph of the file's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return f"{' '.join(text.partition(chr(10) * 2)[0].split())} `{file.relative_to(ROOT)}`"


def _by_node(keys) -> dict[str, list[Key]]:
    """Keys by node, a node before those below it."""
    nodes: dict[str, list[Key]] = {}
    for key in keys:
        nodes.setdefault(key.node, []).append(key)
    ordered: dict[str, list[Key]] = {}
    for node in nodes:
        above = [other for other in nodes if node.startswith(f"{other}.")]
        ordered |= {name: nodes[name] for name in [*above, node] if name not in ordered}
    return ordered


def _node_text(said: Comments | None, names: set[str]) -> str:
    """What is said of a node itself; what is said of CN({...}) stands beside its keys."""
    if said is None or said.value != "CN()" or not said.above:
        return ""
    return f"<p>{as_html(said.above, names)}</p>\n"


def _table(keys: list[Key], names: set[str], full_names: bool = False) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("Key", "Type", "Default", "Meaning"))
    rows = ['<div class="keys"><table>', f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for _, group in groupby(keys, key=lambda key: (key.comments.file, key.comments.first)):
        members = list(group)
        said = members[0].comments
        headings = [said.note] if said.note else []
        if any(key.comments.beside for key in members) and said.above:
            headings.append(said.above)
        rows += [f'<tr><td colspan="4"><em>{as_html(text, names)}</em></td></tr>' for text in headings]
        for index, key in enumerate(members):
            rows.append(f"<tr>{_key_cells(key, full_names)}{_meaning(key, index, len(members), names)}</tr>")
    return "\n".join([*rows, "</tbody>", "</table></div>", ""])


def _key_cells(key: Key, full_name: bool) -> str:
    shown = key.name if full_name else key.name.rpartition(".")[2]
    default = html.escape(key.default_text, quote=False)
    kind = type(key.default).__name__
    return f'<td id="{key.name}"><code>{shown}</code></td><td>{kind}</td><td><code>{default}</code></td>'


def _meaning(key: Key, index: int, count: int, names: set[str]) -> str:
    """The cell at the right: the key's own comment, or one cell for all keys that a comment is about."""
    if key.comments.beside:
        return f"<td>{as_html(key.comments.beside, names)}</td>"
    span = f' rowspan="{count}"' if count > 1 else ""
    return f"<td{span}>{as_html(key.explanation, names)}</td>" if index == 0 else ""


def as_html(comment: str, names: set[str]) -> str:
    """A comment's text: lines joined, values, ``names`` of keys and paths as code.

    A line that is indented further, ``  "word"   text``, begins an item of a list.
    """
    lines: list[str] = []
    for line in comment.splitlines():
        if line.startswith("  ") or not lines:
            lines.append(" ".join(line.split()))
        else:
            lines[-1] += " " + line
    single = re.compile(rf"{CODE.pattern}|\b(?:{'|'.join(sorted(names, key=len, reverse=True))})\b")
    marked = (single.sub(lambda found: f"<code>{found[0]}</code>", html.escape(line, quote=False)) for line in lines)
    return "<br>".join(marked)


if __name__ == "__main__":
    print(config_page())
