"""The ``vis`` command: one sub-command a file of this folder."""

from __future__ import annotations

import typer

from vis_core.cli.demo import demo
from vis_core.cli.env import env
from vis_core.cli.evaluate import evaluate
from vis_core.cli.failures import one_line_errors
from vis_core.cli.predict import predict
from vis_core.cli.submit import submit

app = typer.Typer(
    name="vis",
    help="Video instance segmentation: detect, segment and track every object of a video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (predict, evaluate, submit, demo, env):
    app.command()(command)


def main() -> None:
    """Entry point of the ``vis`` script."""
    with one_line_errors():
        app()


if __name__ == "__main__":
    main()
