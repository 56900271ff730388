"""``vis predict``: a video in; tubes, an overlay video and what else is asked for out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from detectron2.config import CfgNode

from vis_core.atomic import make_folder, write_json
from vis_core.cli.progress import progress
from vis_core.cli.wording import counted
from vis_core.config import check_device, merge_config
from vis_core.data import FrameSource, open_video
from vis_core.engine import VideoPredictor
from vis_core.errors import ConfigError
from vis_core.evaluation import GroundTruth
from vis_core.evaluation.ground_truth import Video
from vis_core.tube import Tube
from vis_core.visualization.contact_sheet import ContactSheet
from vis_core.visualization.overlay import OverlayDrawer, one_per_object, readable_scale, write_overlay
from vis_core.visualization.prediction_report import write_prediction_report
from vis_core.visualization.prediction_report_pictures import Thumbnails
from vis_core.visualization.side_by_side import SideBySide, ground_truth_tubes, video_id_of


@dataclass(frozen=True)
class Pictures:
    """What to make besides the overlay video: ``truth`` is the ground truth's tubes and class names, for the panels."""

    report: bool = False
    sheet: bool = False
    side_by_side: bool = False
    score_bars: bool = False
    truth: tuple[list[Tube], list[str]] | None = None


def predict(
    video: Annotated[Path, typer.Argument(help="Video file, or folder of frames.")],
    model: Annotated[str, typer.Option("--model", help="A model by name (vis model list), instead of a config.")] = "",
    config_file: Annotated[
        Path | None, typer.Option("--config-file", help="The config the weights were trained with.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Trained weights: ours, or a published file.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for overlay.mp4, results.json and video.json.")] = Path(
        "output/predict"
    ),
    score: Annotated[float, typer.Option(help="Draw only tubes with at least this score.")] = 0.3,
    report: Annotated[bool, typer.Option("--report", help="Add report.html: player, tracks, curves.")] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Add panels.mp4: input, prediction, ground truth.")
    ] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="Add sheet.jpg: the video in one image.")] = False,
    score_bars: Annotated[bool, typer.Option("--score-bars", help="Draw each frame's score below labels.")] = False,
    gt: Annotated[
        Path | None, typer.Option(help="Its ground truth (YouTube-VIS form): adds panels, gives the id.")
    ] = None,
    gt_video: Annotated[int | None, typer.Option(help="The video's id there, where its folder does not tell.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; the same as --set MODEL.DEVICE=...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as one json object.")] = False,
    skip_bad_frames: Annotated[bool, typer.Option(help="Warn about unreadable frames instead of stopping.")] = False,
    opts: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE to change in the config.")] = None,
) -> None:
    """Segment and track every object of a video.

    Example: vis predict my.mp4 --config-file configs/masktrack_rcnn/shapesvis_tiny.yaml
    --weights output/masktrack_rcnn/shapesvis_tiny/model_final.pth --out output/my --report

    Example: vis predict my.mp4 --model ctvis-r50-ytvis19
    """
    cfg = _config(model, config_file, weights, opts or [], device)
    check_device(cfg)
    truth = annotated = None
    if gt is not None:
        annotations = GroundTruth.load(gt)
        video_id = video_id_of(annotations, video) if gt_video is None else gt_video
        truth, annotated = ground_truth_tubes(annotations, video_id), annotations.videos[video_id]
    pictures = Pictures(report, sheet, side_by_side or gt is not None, score_bars, truth)
    summary = segment(cfg, video, out, score, skip_bad_frames, pictures, annotated)
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    print(
        f"{counted(summary['tubes'], 'tube')}, {counted(summary['shown'], 'object')} drawn (score >= {score:g}), "
        f"in {out}: {', '.join(summary['files'])}"
    )


def segment(
    cfg: CfgNode,
    video: Path,
    out: Path,
    score: float,
    skip_bad_frames: bool = False,
    pictures: Pictures = Pictures(),
    annotated: Video | None = None,
) -> dict:
    """Run the model of ``cfg`` over ``video`` and write overlay.mp4, results.json, video.json and ``pictures`` into
    ``out``. Tubes below ``score``, and all but the best of one object, are written but not drawn. ``annotated`` is the
    video's entry in a ground truth.

    Returns a summary that json can hold: "tubes" counts all that were written, "shown" the objects drawn.

    Raises ConfigError if ``out`` is the folder of the frames; DataError for a video that cannot be read, or where
    ``out`` cannot be written to.
    """
    source = open_video(video, skip_bad=skip_bad_frames)
    if video.is_dir() and out.resolve() == video.resolve():
        raise ConfigError(f"{out}: holds the video's frames, to which the pictures written there would be added")
    make_folder(out)
    predictor = VideoPredictor(cfg)

    begin = time.perf_counter()
    with progress("segmenting", len(source)) as advance:
        tubes = predictor(source, on_frame=advance)
    seconds = time.perf_counter() - begin
    write_results(out, source, tubes, predictor.class_names, annotated)
    shown = one_per_object([tube for tube in tubes if tube.score >= score])
    shown = {key: replace(tube, track_id=key) for key, tube in shown.items()}
    with progress("drawing", len(source)) as advance:
        files = _draw(out, source, shown, predictor, pictures, advance)
    return {
        "video": str(video),
        "frames": len(source),
        "frames_per_second": round(len(source) / seconds, 2),
        "tubes": len(tubes),
        "shown": len(shown),
        "out": str(out),
        "files": files,
    }


def write_results(
    out: Path, source: FrameSource, tubes: list[Tube], class_names: list[str], annotated: Video | None = None
) -> None:
    """Write ``results.json`` (YouTube-VIS results form, category ids 1..C) and ``video.json``, which describes the
    video and the classes in the form of a YouTube-VIS annotation file.

    The video's id and file names are those of ``annotated``, so that its ground truth evaluates the results; without
    it, the id is 1.
    """
    video_id, file_names = 1, source.file_names
    if annotated is not None:
        video_id = annotated.id
        if len(annotated.file_names) == len(source):
            file_names = list(annotated.file_names)
        else:
            told = f"note: {source.name} has {len(source)} frames, the ground truth's video {video_id} has"
            print(f"{told} {len(annotated.file_names)} file_names", file=sys.stderr)
    entries = [{**tube.to_json(video_id, tube.category + 1), "track_id": tube.track_id} for tube in tubes]
    write_json(entries, out / "results.json")
    names = class_names or [str(c) for c in range(max((tube.category for tube in tubes), default=-1) + 1)]
    description = {
        "videos": [
            {
                "id": video_id,
                "height": source.height,
                "width": source.width,
                "length": len(source),
                "file_names": file_names,
            }
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(names)],
    }
    write_json(description, out / "video.json")


def _config(model: str, config_file: Path | None, weights: str, opts: list[str], device: str) -> CfgNode:
    """The config that the options describe, with ``MODEL.WEIGHTS`` set."""
    import projects  # fills the registries

    if bool(model) == (config_file is not None):
        raise ConfigError("vis predict needs one of --model NAME (vis model list) and --config-file FILE")
    unpaired = next((opt for opt in opts if "=" not in opt), None)
    if unpaired is not None:
        raise ConfigError(f"--set {unpaired}: expected KEY=VALUE")
    pairs = [part for opt in opts for part in opt.split("=", 1)]
    if device:
        pairs += ["MODEL.DEVICE", device]
    if model:
        entry = projects.find_model(model)
        return entry.config([*pairs, "MODEL.WEIGHTS", weights or str(entry.weights_file())])
    if not weights:
        raise ConfigError("vis predict --config-file needs --weights FILE: the config's own are where training starts")
    return merge_config(projects.default_config(), config_file, [*pairs, "MODEL.WEIGHTS", weights])


def _draw(
    out: Path,
    source: FrameSource,
    tubes: dict[int, Tube],
    predictor: VideoPredictor,
    pictures: Pictures,
    advance: Callable[[], None],
) -> list[str]:
    """Write everything that can be looked at, in one pass over the video; returns the files' names."""
    size, names = (source.height, source.width), predictor.class_names
    files = ["overlay.mp4", "results.json", "video.json"]
    sheet, thumbnails = ContactSheet(len(source)), Thumbnails(tubes)
    sinks = [sheet.add] if pictures.sheet else []
    if pictures.report:
        sinks.append(thumbnails.add)
    with ExitStack() as stack:
        if pictures.side_by_side:
            truth = pictures.truth and OverlayDrawer(*pictures.truth, *size, readable_scale(*size), scores=False)
            sinks.append(stack.enter_context(SideBySide(out / "panels.mp4", source.fps, truth)).add)
            files.append("panels.mp4")
        write_overlay(
            source, list(tubes.values()), names, out / "overlay.mp4", advance, pictures.score_bars, sinks=sinks
        )
    if pictures.sheet:
        sheet.save(out / "sheet.jpg")
        files.append("sheet.jpg")
    if pictures.report:
        write_prediction_report(
            out / "report.html",
            video_name=source.name,
            size=size,
            fps=source.fps,
            num_frames=len(source),
            tubes=tubes,
            class_names=names,
            overlay=out / "overlay.mp4",
            pictures=thumbnails.pictures,
            subtitle=f"{type(predictor.model).__name__}, {predictor.cfg.MODEL.WEIGHTS}",
        )
        files.append("report.html")
    return files
