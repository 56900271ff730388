"""``vis evaluate``: tube AP of a results file, for any data in the YouTube-VIS form."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vis_core.cli.progress import progress, reading
from vis_core.errors import DataError
from vis_core.evaluation import GroundTruth, Results, TrackMetrics, evaluate_splits
from vis_core.evaluation.checks import trackless_note
from vis_core.evaluation.hota import evaluate_hota
from vis_core.json_file import read_json


def evaluate(
    results: Annotated[Path, typer.Argument(help="Results file in the YouTube-VIS form.")],
    gt: Annotated[Path, typer.Option(help="Ground truth in the YouTube-VIS form.")],
    json_: Annotated[bool, typer.Option("--json", help="Print json instead of a table.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Folder of the videos' frames, for the report's pictures.")
    ] = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="Add tube-boundary AP, as HQ-YTVIS defines it.")] = False,
    hota: Annotated[bool, typer.Option("--hota", help="Add HOTA, DetA and AssA.")] = False,
    min_score: Annotated[float, typer.Option(help="Tracks below take no part in HOTA, error counts, confusion.")] = 0.5,
    videos: Annotated[Path | None, typer.Option(help="Json list of the ids of the videos to evaluate.")] = None,
    long_videos: Annotated[
        Path | None, typer.Option(help="Json list of the ids of the long videos (YouTube-VIS 2022): adds AP_S, AP_L.")
    ] = None,
    lenient: Annotated[
        bool,
        typer.Option("--lenient", help="Tolerate what the official evaluator does: wrong lengths, sizes, classes."),
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0: one for each core.")] = 1,
) -> None:
    """Compute tube AP and AR of a results file against a ground truth.

    Example: vis evaluate output/inference/results.json --gt datasets/mine/val.json --report report.html
    """
    if frames is not None and not frames.is_dir():
        raise DataError(f"{frames}: no such folder (--frames)")
    with reading(gt):
        ground_truth = GroundTruth.load(gt)
    with reading(results):
        tracks = Results.load(results)
    if not ground_truth.has_annotations:
        raise DataError(f"{gt}: there are no annotations, so there is no AP to compute (vis submit packs results)")
    splits = _splits(ground_truth, videos, long_videos)
    options = {"strict_lengths": not lenient, "strict_entries": not lenient, "workers": workers or os.cpu_count() or 1}
    metrics = _metrics(ground_truth, tracks, splits, boundary, options)
    note = trackless_note(ground_truth, tracks, ground_truth.videos if splits["all"] is None else splits["all"])
    if note:
        print(note, file=sys.stderr)
    content = {"results": str(results), "gt": str(gt)}
    content |= {kind: _content(by_split) for kind, by_split in metrics.items()}
    if hota:
        tracking = evaluate_hota(ground_truth, tracks, min_score=min_score, video_ids=splits["all"])
        content["hota"] = {name: 100 * value for name, value in tracking.mean.summary().items()}
    print(json.dumps(content, indent=1) if json_ else _tables(content))
    if report is not None:
        # Drawing needs more than evaluation does.
        from vis_core.visualization.evaluation_report import write_report

        boundary_metrics = metrics["tube_boundary"]["all"] if boundary else None
        write_report(
            report,
            ground_truth,
            tracks,
            metrics["tube_mask"]["all"],
            boundary=boundary_metrics,
            hota=content.get("hota"),
            frames=frames,
            min_score=min_score,
            video_ids=splits["all"],
            strict_lengths=not lenient,
        )
        print(f"report: {report}", file=sys.stderr)


def _splits(ground_truth: GroundTruth, videos: Path | None, long_videos: Path | None) -> dict[str, list[int] | None]:
    """Ids of the videos to evaluate, None for every one, and apart those of short and of long ones where known."""
    splits: dict[str, list[int] | None] = {"all": None if videos is None else _ids(videos)}
    if long_videos is not None:
        long_ids = set(_ids(long_videos))
        selected = list(ground_truth.videos) if splits["all"] is None else splits["all"]
        splits["short"] = [video_id for video_id in selected if video_id not in long_ids]
        splits["long"] = [video_id for video_id in selected if video_id in long_ids]
    return splits


def _metrics(
    ground_truth: GroundTruth, tracks: Results, splits: dict, boundary: bool, options: dict
) -> dict[str, dict[str, TrackMetrics]]:
    """By kind of IoU and split."""
    kinds = {"tube_mask": {"iou_type": "segm", "occlusion": ground_truth.has_occlusion}}
    if boundary:
        kinds["tube_boundary"] = {"iou_type": "boundary"}
    metrics = {}
    num_videos = len(ground_truth.videos) if splits["all"] is None else len(splits["all"])
    for kind, choice in kinds.items():
        with progress(f"evaluating {kind}", num_videos, "videos") as advance:
            metrics[kind] = evaluate_splits(ground_truth, tracks, splits, progress=advance, **choice, **options)
    return metrics


def _ids(path: Path) -> list[int]:
    """A json list of video ids."""
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(video_id, int) for video_id in ids):
        raise DataError(f"{path}: not a json list of video ids")
    return ids


def _content(by_split: dict[str, TrackMetrics]) -> dict:
    """In percent, null where undefined."""
    everything = by_split["all"]
    content = {
        "stats": {name: _percent(value) for name, value in everything.stats.items()},
        "categories": {
            category["name"]: {name: _percent(category[name]) for name in ("AP", "AP50", "AR100")}
            for category in everything.per_category.values()
        },
    }
    if "long" in by_split:
        short, long = (_percent(by_split[split].stats["AP"]) for split in ("short", "long"))
        mean = None if short is None or long is None else (short + long) / 2
        content["stats"] |= {"AP_S": short, "AP_L": long, "AP_SL": mean}
    return content


def _percent(value: float) -> float | None:
    return None if math.isnan(value) or value < 0 else 100 * value


def _tables(content: dict) -> str:
    blocks = []
    for kind, title in (("tube_mask", "tube AP and AR"), ("tube_boundary", "tube-boundary AP and AR")):
        if kind in content:
            blocks.append(_row_table(title, content[kind]["stats"]))
    if "hota" in content:
        blocks.append(_row_table("tracking", content["hota"]))
    categories = content["tube_mask"]["categories"]
    if len(categories) > 1:
        width = max(len(name) for name in categories)
        lines = [f"{'class'.ljust(width)}  {'AP':>5}  {'AP50':>5}  {'AR100':>5}"]
        for name, values in categories.items():
            lines.append(f"{name.ljust(width)}  " + "  ".join(_number(value) for value in values.values()))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _row_table(title: str, values: dict[str, float | None], columns: int = 9) -> str:
    """Names over values, ``columns`` a line."""
    lines, names = [title], list(values)
    for start in range(0, len(names), columns):
        part = names[start : start + columns]
        widths = [max(5, len(name)) for name in part]
        lines.append("  ".join(name.rjust(width) for name, width in zip(part, widths)))
        lines.append("  ".join(_number(values[name]).rjust(width) for name, width in zip(part, widths)))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return f"{'-':>5}" if value is None else f"{value:5.1f}"
