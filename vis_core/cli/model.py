"""``vis model``: the models that can be called by name, and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vis_core.checkpoint.download import download
from vis_core.checkpoint.files import read_checkpoint, weights_of, write_checkpoint
from vis_core.cli.progress import progress
from vis_core.errors import CheckpointError

model_app = typer.Typer(
    help="List the models that can be called by name, and fetch their weights.",
    no_args_is_help=True,
    add_completion=False,
)
Alias = Annotated[str, typer.Argument(help="Name of a model, as vis model list shows it.")]


@model_app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a json list.")] = False,
) -> None:
    """Show all models: name, config, and whether the weights are here.

    Example: vis model list --json
    """
    import projects

    models = projects.known_models().values()
    if as_json:
        print(json.dumps([_facts(model) for model in models], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("model", "config", "weights", ""):
        # A name cut short is of no use; the others may go on in the next line.
        table.add_column(title, no_wrap=title in ("model", "weights"), overflow="fold")
    for model in models:
        table.add_row(model.alias, model.config_name, "here" if model.find_weights() else "-", model.note)
    # Where the output is not a terminal, a model is one line, so that a script can cut it.
    Console(width=None if Console().is_terminal else 500).print(table)


@model_app.command("show")
def show_model(alias: Alias, as_json: Annotated[bool, typer.Option("--json", help="Print json.")] = False) -> None:
    """Show one model: config, weights file, where it is published.

    Example: vis model show ctvis-r50-ytvis19
    """
    import projects

    model = projects.find_model(alias)
    facts = _facts(model)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        if value:
            print(f"{name:<13} {value}")
    if not facts["weights"]:
        print(f"{'missing':<13} {model.target()}; {model.how_to_get()}")


@model_app.command("get")
def get_model(
    alias: Alias,
    url: Annotated[str, typer.Option(help="Fetch from here instead of from the published address.")] = "",
    sha256: Annotated[str, typer.Option(help="Digest that the file must have, where none is known.")] = "",
) -> None:
    """Download a model's weights to where the other commands look for them; an interrupted download is continued.

    Example: vis model get ctvis-r50-ytvis19 --url https://example.org/ctvis_r50.pth
    """
    import projects

    model = projects.find_model(alias)
    found = model.find_weights()
    if found is not None and not (url or sha256):
        print(f"{found}: here already")
        return
    address = url or model.url
    if not address:
        raise CheckpointError(
            f"model {alias}: no address of its weights is known here (--url gives one); {model.target()}: "
            f"{model.how_to_get()}"
        )
    with progress(f"fetching {model.weights}", None, unit="MB") as advance:
        shown = 0

        def report(have: int, total: int | None) -> None:
            nonlocal shown
            new = have // 2**20 - shown
            if new:
                advance(new)
                shown += new

        path = download(address, model.target(), sha256 or model.sha256, report)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MB")


@model_app.command("export")
def export_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a training run.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size; loads as float32.")] = False,
) -> None:
    """Write a checkpoint's weights alone, without what a training needs to go on.

    Example: vis model export output/masktrack_rcnn/shapesvis_tiny/model_final.pth mine.pth --half
    """
    weights = weights_of(read_checkpoint(checkpoint), checkpoint)
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    write_checkpoint({"model": dict(weights)}, out)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MB, {len(weights)} tensors")


def _facts(model) -> dict[str, str]:
    found = model.find_weights()
    return {
        "model": model.alias,
        "method": model.method,
        "config": str(model.config_file),
        "weights": str(found or ""),
        "weights_file": model.weights,
        "published": model.url or model.page,
        "sha256": model.sha256,
        "trains_from": model.config().MODEL.WEIGHTS,
        "note": model.note,
    }
