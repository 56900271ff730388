"""The ``vis`` command: one sub-command a file of this folder."""

from __future__ import annotations

import sys

import typer

from vis_core.cli.bench import bench
from vis_core.cli.data import data_app
from vis_core.cli.demo import demo
from vis_core.cli.env import env
from vis_core.cli.evaluate import evaluate
from vis_core.cli.failures import one_line_errors
from vis_core.cli.model import model_app
from vis_core.cli.predict import predict
from vis_core.cli.submit import submit
from vis_core.cli.train import train

app = typer.Typer(
    name="vis",
    help="Video instance segmentation: detect, segment and track every object of a video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (predict, evaluate, submit, demo, env):
    app.command()(command)
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}  # config keys; a script's own options
app.command(context_settings={**PASS_ON, "allow_interspersed_args": False})(train)
app.command(context_settings={**PASS_ON, "allow_interspersed_args": False})(bench)
app.add_typer(model_app, name="model")
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of the ``vis`` script."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    with one_line_errors():
        status = app(prog_name="vis", standalone_mode=False)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
