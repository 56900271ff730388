"""``vis bench``: the benchmark scripts of a checkout."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from vis_core.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Script to run, without .py; what follows goes to it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Run all of them, one after the other.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="List the scripts as json.")] = False,
) -> None:
    """Run a benchmark script; without a name, list them.

    Example: vis bench evaluator

    Example: vis bench ctvis_inference --frames 2
    """
    scripts = benchmark_scripts()
    if not (name or everything):
        print(json.dumps(scripts, indent=1) if as_json else "\n".join(f"{n:<18} {text}" for n, text in scripts.items()))
        return
    if name and name not in scripts:
        raise ConfigError(f"no benchmark '{name}': there are {', '.join(scripts)}")
    for script in [name] if name else scripts:
        status = subprocess.run([sys.executable, str(FOLDER / f"{script}.py"), *context.args]).returncode
        if status:
            raise typer.Exit(status)


def benchmark_scripts(folder: Path = FOLDER) -> dict[str, str]:
    """Scripts that can be run (not their helpers), with the first line of what they say about themselves.

    Raises ConfigError outside a checkout: benchmarks are not installed.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} not found: benchmarks run in a checkout of the project")
    scripts = {}
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "__main__" in text:
            scripts[file.stem] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return scripts
