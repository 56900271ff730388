"""``vis submit``: a results file, checked and packed for the public evaluation servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vis_core.cli.progress import progress, reading
from vis_core.cli.wording import counted
from vis_core.evaluation import GroundTruth, Results, write_submission
from vis_core.evaluation.checks import check_submission, trackless_note


def submit(
    results: Annotated[Path, typer.Argument(help="Results file in the YouTube-VIS form.")],
    gt: Annotated[Path, typer.Option(help="The split's json: videos and categories; annotations are not needed.")],
    out: Annotated[Path | None, typer.Option(help="Archive to write; by default beside the results, .zip.")] = None,
) -> None:
    """Check a results file against its split and pack it for an evaluation server.

    Example: vis submit output/inference/results.json --gt datasets/ytvis_2021/valid.json
    """
    with reading(gt):
        ground_truth = GroundTruth.load(gt)
    with reading(results):
        tracks = Results.load(results)
    archive = results.with_suffix(".zip") if out is None else out
    with progress("checking", len(tracks.video_ids), "videos") as advance:
        check_submission(ground_truth, tracks, advance)
    note = trackless_note(ground_truth, tracks, ground_truth.videos)
    if note:
        print(note)
    write_submission(results, archive)
    print(f"{counted(len(tracks), 'track')} in {counted(len(tracks.video_ids), 'video')}: {archive}")
