"""The config keys of this project, with defaults and explanations, read from where they are defined.

Defaults come from ``projects.default_config()``, explanations from the comments beside the assignments in the
``add_*_config`` functions, so that each has one source:

- A comment at the end of an assignment's line explains its key.
- A comment right above an assignment explains its key, and those of the assignments that follow without a gap if it
  names them. Where they have comments of their own it is a heading.
- A comment with a blank line below it is a note on the keys that follow.

``docs/config_page.py`` makes the page of it.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
NODE = "CN()"


@dataclass(frozen=True)
class Comments:
    """What the source says beside one assignment; "" where it says nothing.

    Attributes:
        file, line: where the assignment begins.
        first: line of the first assignment that ``above`` belongs to.
        above: the comment above, its lines kept.
        beside: the comment at the end of the line.
        note: comments that stand by themselves above this assignment.
        value: source text of what is assigned.
    """

    file: Path
    line: int
    first: int
    above: str
    beside: str
    note: str
    value: str


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: in full, as MODEL.CTVIS.REID_DIM.
        default: its value in the default config.
        comments: beside the assignment that sets it, or that sets its node, CN({...}).
        official: it is one of Detectron2's, with another default here.
    """

    name: str
    default: object
    comments: Comments
    official: bool

    @property
    def node(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def explanation(self) -> str:
        """What the source says about this key; "" if nothing."""
        said, own_name = self.comments, self.name.rpartition(".")[2]
        if said.beside:
            return said.beside
        alone = said.line == said.first and not said.value.startswith("CN(")
        return said.above if alone or re.search(rf"\b{own_name}\b", said.above) else ""

    @property
    def default_text(self) -> str:
        """The default as one writes it, or the source's expression where it depends on the machine."""
        if any(isinstance(part, ast.IfExp) for part in ast.walk(ast.parse(self.comments.value))):
            return self.comments.value
        return f'"{self.default}"' if isinstance(self.default, str) else str(self.default)


def read_keys() -> tuple[list[Key], dict[str, Comments]]:
    """All keys that this project sets, in the order of their definition, and what is said about each new node."""
    cfg, official, places = _default_config()
    keys: list[Key] = []
    nodes: dict[str, Comments] = {}

    def walk(node, prefix: str, inherited: Comments | None) -> None:
        for name, value in node.items():
            place = places.get((id(node), name))
            said = comments_at(*place) if place else inherited
            if isinstance(value, type(cfg)):
                if said:
                    nodes[prefix + name] = said
                # The keys of CN({...}) are set by the assignment of their node.
                walk(value, f"{prefix}{name}.", said)
            elif said:
                keys.append(Key(prefix + name, value, said, _has(official, prefix + name)))

    walk(cfg, "", None)
    keys.sort(key=lambda key: (_rank(key.comments.file), key.comments.line))
    return keys, nodes


def _default_config():
    """The default config, Detectron2's, and which (file, line) set which (id of the node, name of the key)."""
    sys.path.insert(0, str(ROOT))
    from projects import default_config  # makes detectron2 importable

    sys.path.remove(str(ROOT))
    from detectron2.config import CfgNode, get_cfg

    places: dict[tuple[int, str], tuple[Path, int]] = {}
    set_attribute = CfgNode.__setattr__

    def note_place(self, name, value):
        set_attribute(self, name, value)
        caller = sys._getframe(1)
        file = Path(caller.f_code.co_filename)
        if file.name == "config.py" and file.is_relative_to(ROOT) and "host" not in file.parts:
            places[id(self), name] = (file, caller.f_lineno)

    with mock.patch.object(CfgNode, "__setattr__", note_place):
        cfg = default_config()  # holds all nodes, so that no id is used twice
    return cfg, get_cfg(), places


def comments_at(file: Path, line: int) -> Comments:
    """The comments on the assignment at ``line`` of ``file``. Raises StopIteration if there is no assignment."""
    return next(said for lines, said in _comments_of_file(file) if line in lines)


@cache
def _comments_of_file(file: Path) -> list[tuple[range, Comments]]:
    source = file.read_text(encoding="utf-8")
    own_lines, beside = _comment_lines(source)
    found: list[tuple[range, Comments]] = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            body = [statement for statement in function.body if isinstance(statement, ast.Assign)]
            found += _comments_of_body(file, body, own_lines, beside)
    return found


def _comments_of_body(
    file: Path, body: list[ast.Assign], own_lines: dict[int, str], beside: dict[int, str]
) -> list[tuple[range, Comments]]:
    found: list[tuple[range, Comments]] = []
    above, first, end = "", 0, 0  # of the assignment before
    for statement in body:
        lines = range(statement.lineno, statement.end_lineno + 1)
        value = ast.unparse(statement.value)
        blocks = _blocks_ending_at(lines[0] - 1, own_lines)
        if blocks and blocks[-1].stop == lines[0]:
            above, first = _text(blocks.pop(), own_lines), lines[0]
        elif not above or lines[0] != end + 1:
            above, first = "", lines[0]
        own = " ".join(beside[line] for line in lines if line in beside)
        note = "\n".join(_text(block, own_lines) for block in blocks)
        found.append((lines, Comments(file, lines[0], first, above, own, note, value)))
        end = lines[-1]
        if value == NODE:
            above = ""  # what is said of a node is not said of its keys
    return found


def _comment_lines(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Texts of comments by line: those on lines of their own, where blank lines are "", and those beside code."""
    own_lines = {number: "" for number, line in enumerate(source.splitlines(), 1) if not line.strip()}
    beside: dict[int, str] = {}
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            places = own_lines if token.line.lstrip().startswith("#") else beside
            places[token.start[0]] = token.string.removeprefix("#").removeprefix(" ").rstrip()
    return own_lines, beside


def _blocks_ending_at(line: int, own_lines: dict[int, str]) -> list[range]:
    """Blocks of comment lines between ``line`` and the next code above it, from the top."""
    blocks: list[range] = []
    while line in own_lines:
        end = line
        while own_lines.get(line):
            line -= 1
        if line < end:
            blocks.insert(0, range(line + 1, end + 1))
        else:
            line -= 1
    return blocks


def _text(lines: range, own_lines: dict[int, str]) -> str:
    return "\n".join(own_lines[line] for line in lines)


def _has(node, name: str) -> bool:
    for part in name.split("."):
        if part not in node:
            return False
        node = node[part]
    return True


def _rank(file: Path) -> tuple[bool, int, str]:
    """What is shared comes first, from the top of the tree downwards."""
    parts = file.relative_to(ROOT).parts
    return parts[0] != "vis_core", len(parts), str(file)
