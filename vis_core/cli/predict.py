"""``vis predict``: a video in, tubes and an overlay video out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from detectron2.config import CfgNode

from vis_core.checkpoint.files import write_text
from vis_core.cli.progress import progress
from vis_core.config import check_device, merge_config
from vis_core.data import FrameSource, open_video
from vis_core.engine import VideoPredictor
from vis_core.tube import Tube
from vis_core.visualization.overlay import write_overlay


def predict(
    video: Annotated[Path, typer.Argument(help="Video file, or folder of frames.")],
    config_file: Annotated[Path, typer.Option("--config-file", help="The config the weights were trained with.")],
    weights: Annotated[str, typer.Option(help="Trained weights: ours, or a published file.")],
    out: Annotated[Path, typer.Option(help="Folder for overlay.mp4, results.json and video.json.")],
    score: Annotated[float, typer.Option(help="Draw only tubes with at least this score.")] = 0.3,
    skip_bad_frames: Annotated[bool, typer.Option(help="Warn about unreadable frames instead of stopping.")] = False,
    opts: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE to change in the config.")] = None,
) -> None:
    """Segment and track every object of a video.

    Example: vis predict my.mp4 --config-file configs/masktrack_rcnn/shapesvis_tiny.yaml
    --weights output/model_final.pth --out output/my
    """
    import projects  # fills the registries

    pairs = [part for opt in opts or [] for part in opt.split("=", 1)]
    cfg = merge_config(projects.default_config(), config_file, [*pairs, "MODEL.WEIGHTS", weights])
    check_device(cfg)
    segment(cfg, video, out, score, skip_bad_frames)


def segment(cfg: CfgNode, video: Path, out: Path, score: float, skip_bad_frames: bool = False) -> None:
    """Run the model of ``cfg`` over ``video`` and write overlay.mp4, results.json and video.json into ``out``.

    Tubes below ``score`` are written but not drawn.
    """
    source = open_video(video, skip_bad=skip_bad_frames)
    predictor = VideoPredictor(cfg)
    out.mkdir(parents=True, exist_ok=True)

    with progress("segmenting", len(source)) as advance:
        tubes = predictor(source, on_frame=advance)
    write_results(out, source, tubes, predictor.class_names)
    shown = [tube for tube in tubes if tube.score >= score]
    with progress("drawing", len(source)) as advance:
        write_overlay(source, shown, predictor.class_names, out / "overlay.mp4", progress=advance)
    print(f"{len(tubes)} tubes, {len(shown)} with score >= {score:g}, in {out}: overlay.mp4, results.json, video.json")


def write_results(out: Path, source: FrameSource, tubes: list[Tube], class_names: list[str]) -> None:
    """Write ``results.json`` (YouTube-VIS results form, category ids 1..C) and ``video.json``, which describes the
    video and the classes in the form of a YouTube-VIS annotation file."""
    entries = [{**tube.to_json(1, tube.category + 1), "track_id": tube.track_id} for tube in tubes]
    write_text(json.dumps(entries), out / "results.json")
    names = class_names or [str(c) for c in range(max((tube.category for tube in tubes), default=-1) + 1)]
    description = {
        "videos": [
            {
                "id": 1,
                "height": source.height,
                "width": source.width,
                "length": len(source),
                "file_names": [f"{source.name}/{t:05d}.jpg" for t in range(len(source))],
            }
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(names)],
    }
    write_text(json.dumps(description), out / "video.json")
