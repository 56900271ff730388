"""docs/architecture.md tells the truth: folders that are there, and imports that go down only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
METHODS = sorted(path.parent.name for path in (ROOT / "projects").glob("*/config.py"))
# Level of every module of vis_core, from the page's table.
LEVELS = {
    name: int(level)
    for level, names in re.findall(r"^\| (\d) \| (`.*`) \|$", PAGE, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
}


def sources(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if "detectron2" not in file.parts]  # the bundled subset is a package of its own


def imported(tree: ast.AST, file: Path) -> set[str]:
    """Modules that the statements of ``tree`` import, in full; ``from vis_core import rle`` counts as vis_core.rle."""
    package = list(file.relative_to(ROOT).parent.parts)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "vis_core" else {module}
    return names


def test_every_module_of_vis_core_has_a_level() -> None:
    there = {
        path.stem for path in (ROOT / "vis_core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(LEVELS) == there - {"__init__"}


@pytest.mark.parametrize("room", sorted(LEVELS))
def test_imports_go_down(room: str) -> None:
    path = ROOT / "vis_core" / room
    files = sources(f"vis_core/{room}") if path.is_dir() else [path.with_suffix(".py")]
    wrong = []
    for file in files:
        for name in imported(ast.parse(file.read_text(encoding="utf-8")), file):
            other = name.split(".")[1] if name.startswith("vis_core.") else room
            if other != room and other in LEVELS and LEVELS[other] >= LEVELS[room]:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("method", METHODS)
def test_methods_do_not_know_each_other(method: str) -> None:
    others = tuple(f"projects.{other}" for other in METHODS if other != method)
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sources(f"projects/{method}")
        for name in imported(ast.parse(file.read_text(encoding="utf-8")), file)
        if name.startswith(others)
    ]
    assert not wrong


def test_vis_core_imports_methods_only_when_it_runs() -> None:
    wrong = []
    for file in sources("vis_core"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        # What runs at import: all but functions' bodies.
        top = ast.Module([node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))], [])
        wrong += [f"{file.relative_to(ROOT)}: {name}" for name in imported(top, file) if name.startswith("projects")]
    assert not wrong


def test_folders_and_files_of_the_page_are_there() -> None:
    paths = re.findall(r"`((?:projects|vis_core|configs|tests|benchmarks|data|engine)/[\w./<>]*)`", PAGE)
    assert len(paths) > 20
    missing = []
    for path in paths:
        for method in METHODS if "<method>" in path else [""]:
            name = path.replace("<method>", method)
            if not (ROOT / name).exists() and not (ROOT / "vis_core" / name).exists():
                missing.append(name)
    assert not missing


def test_every_folder_of_vis_core_is_on_the_page() -> None:
    folders = [path.parent.name for path in (ROOT / "vis_core").glob("*/__init__.py")]
    assert [name for name in folders if f"`vis_core/{name}/`" not in PAGE] == []
