"""The ``vis`` command: one sub-command a file of this folder, imported when it is called.

Most of them need PyTorch, whose import takes seconds; the list of commands need not wait for it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

import vis_core.cli.quiet  # noqa: F401  (before PyTorch is imported, also in worker processes)
from vis_core import __version__
from vis_core.cli.failures import one_line_errors

# What the list says of each command: the first sentence of its own help.
COMMANDS = {
    "predict": "Segment and track every object of a video.",
    "evaluate": "Compute tube AP and AR of a results file against a ground truth.",
    "submit": "Check a results file against its split and pack it for an evaluation server.",
    "demo": "Train, evaluate and predict on generated videos; leaves weights, a results file, a report and an "
    "overlay video.",
    "env": "Print versions, device, and which detectron2 is in use.",
    "train": "Train a method from a config, or evaluate it; the same as train_net.py. Config keys come last: "
    "KEY VALUE ...",
    "bench": "Run a benchmark script; without a name, list them.",
    "model": "List the models that can be called by name, and fetch their weights.",
    "data": "Make a data set of your own: convert, check, look, count, split. The guide: docs/own-data.md.",
}
PASS_ON = ("train", "bench")  # their own options first, then config keys or a script's options


def load(name: str):
    """The command of that name: click's object, made from ``vis_core.cli.<name>``."""
    module = importlib.import_module(f"vis_core.cli.{name}")
    group = getattr(module, f"{name}_app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        settings = {"allow_interspersed_args": False, "ignore_unknown_options": True, "allow_extra_args": True}
        group.command(name, context_settings=settings if name in PASS_ON else None)(getattr(module, name))
    return typer.main.get_command(group)


class LazyCommands(TyperGroup):
    """A group that lists placeholders and imports a command when it is called."""

    def resolve_command(self, ctx, args):
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name), rest


app = typer.Typer(name="vis", cls=LazyCommands, add_completion=False, pretty_exceptions_enable=False)
for command, text in COMMANDS.items():
    app.command(command, help=text)(lambda: None)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vis-core {__version__}")
        raise typer.Exit()


@app.callback(no_args_is_help=True)
def vis(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Video instance segmentation: detect, segment and track every object of a video."""


def main() -> None:
    """Entry point of the ``vis`` script."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    with one_line_errors():
        status = app(prog_name="vis", standalone_mode=False)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
