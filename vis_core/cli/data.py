"""``vis data``: labels of other tools converted, checked, counted, looked at and split."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from vis_core.atomic import replacing, write_json, write_text
from vis_core.cli.progress import progress
from vis_core.cli.wording import counted
from vis_core.data import open_video
from vis_core.data.annotation_checks import check_annotations, repair
from vis_core.data.annotation_file import read_annotation_file
from vis_core.data.extract import extract_frames
from vis_core.data.formats import (
    FORMATS,
    ReadOptions,
    WriteOptions,
    detect_format,
    format_named,
    read_labels,
    write_labels,
)
from vis_core.data.formats.paths import new_folder
from vis_core.data.shapes import ShapesConfig, generate_shapes
from vis_core.data.split import check_ids, part_of, split_videos
from vis_core.data.statistics import Statistics, data_statistics
from vis_core.errors import ConfigError, DataError

data_app = typer.Typer(
    help="Make a data set of your own: convert, check, look, count, split. The guide: docs/own-data.md.",
    no_args_is_help=True,
    add_completion=False,
)

Json = Annotated[Path, typer.Argument(help="Labels in the YouTube-VIS form.")]
Frames = Annotated[Path | None, typer.Option(help="Folder that the file names of frames are relative to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one json object.")]
Known = ", ".join(FORMATS)


def _track(items: Sequence, what: str) -> Iterator:
    """The items, with progress on stderr."""
    with progress("working", len(items), what) as advance:
        for item in items:
            yield item
            advance()


@data_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File or folder of labels.")],
    out: Annotated[Path, typer.Argument(help="Json to write; a new folder for formats of many files.")],
    from_format: Annotated[str | None, typer.Option("--from", help=f"Found out by itself, or one of: {Known}.")] = None,
    to_format: Annotated[str, typer.Option("--to", help=f"One of: {Known}.")] = "ytvis",
    frames: Frames = None,
    classes: Annotated[str | None, typer.Option(help="The classes, in order: cat,dog. By default those found.")] = None,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Frames without a label file are frames without objects.")
    ] = False,
    copy_frames: Annotated[
        bool, typer.Option("--copy-frames", help="Put the frames beside the labels written (needs --frames).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a json that is there already.")] = False,
) -> None:
    """Convert labels: to the YouTube-VIS json that training reads, or back to the form of another tool.

    Example: vis data convert my_labels/ my/all.json

    Example: vis data convert annotations.xml my/all.json --from cvat --frames my/frames

    Example: vis data convert my/all.json my_davis/ --to davis --frames my/frames --copy-frames
    """
    if copy_frames and frames is None:
        raise ConfigError("--copy-frames needs --frames, the folder to copy from")
    if out.is_file() and format_named(to_format, "--to").is_file and not force:  # corrected by hand, perhaps
        raise DataError(f"{out}: exists already; name a new file, or replace it with --force")
    name = from_format or detect_format(source)
    names = [part.strip() for part in classes.split(",") if part.strip()] if classes else None
    labels = read_labels(source, name, ReadOptions(frames, keep_unlabelled, _track), names)
    write_labels(labels, out, to_format, WriteOptions(frames if copy_frames else None, _track))
    for note, count in labels.notes.items():
        if count:
            typer.echo(f"note: {note} ({count})", err=True)
    tracks = [track for video in labels.videos for track in video.tracks]
    num_frames = sum(len(video.file_names) for video in labels.videos)
    print(
        f"{name} to {to_format}: {len(labels.videos)} videos, {num_frames} frames, {len(tracks)} tracks, "
        f"{len(labels.categories)} classes ({', '.join(labels.categories)}): {out}"
    )
    if labels.frames is not None and to_format == "ytvis":
        print(f"frames are relative to {labels.frames}")


@data_app.command()
def check(
    json_file: Json,
    frames: Frames = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Repair what follows from the rest; the file as it was stays as .bak, .bak2 ..."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell everything that is wrong with a json, with file, ids and field. Exit status 1 if there are errors.

    Example: vis data check my/all.json --frames my/frames

    Example: vis data check my/all.json --fix --json
    """
    data, problems = check_annotations(json_file, frames, _track)
    repaired = 0
    if fix and any(problem.repair for problem in problems):
        repaired = repair(problems)
        _keep(json_file)
        write_json(data, json_file)
        data, problems = check_annotations(json_file, frames, _track)
    errors = sum(1 for problem in problems if problem.severity == "error")
    if as_json:
        content = {"file": str(json_file), "errors": errors, "warnings": len(problems) - errors, "repaired": repaired}
        print(json.dumps({**content, "problems": [problem.to_json() for problem in problems]}, indent=1))
    else:
        for problem in problems:
            print(f"{json_file}: {problem}")
        told = f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}"
        fixable = sum(1 for problem in problems if problem.repair)
        told += f", {repaired} repaired" if fix else f", {fixable} of them fixable (--fix)" if fixable else ""
        looked = "" if frames else "; frames were not looked at (--frames FOLDER)"
        held = f"{counted(len(data['videos']), 'video')}, {counted(len(data.get('annotations') or []), 'track')}"
        print(f"{json_file}: {held}: {told}{looked}")
    if errors:
        raise typer.Exit(1)


@data_app.command()
def stats(
    json_file: Json,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count a data set: lengths, sizes, occlusion, which classes meet.

    Example: vis data stats my/all.json --html my/stats.html
    """
    labels = read_labels(json_file, "ytvis", ReadOptions(track=_track))
    statistics = data_statistics(labels, read_annotation_file(json_file, "ytvis"), _track)
    print(json.dumps(statistics.to_json(), indent=1) if as_json else _text(statistics))
    if html is not None:
        from vis_core.visualization.statistics_page import statistics_page

        _write_page(statistics_page(statistics, f"Statistics of {json_file.name}", str(json_file)), html)


@data_app.command()
def browse(
    json_file: Json,
    frames: Annotated[Path, typer.Option(help="Folder that the file names of frames are relative to.")],
    out: Annotated[Path, typer.Option(help="Html file to write.")] = Path("gallery.html"),
    max_videos: Annotated[int, typer.Option(help="Show so many videos at most, evenly spread; 0: all.")] = 60,
    num_frames: Annotated[int, typer.Option(help="Pictures per video.")] = 8,
    width: Annotated[int, typer.Option(help="Of a picture, in pixels.")] = 360,
) -> None:
    """Make a page of all videos with their objects drawn, to look at in a browser. It needs no other file.

    Example: vis data browse my/all.json --frames my/frames --out my/gallery.html
    """
    from vis_core.visualization.gallery import gallery_page

    if min(num_frames, width) < 1 or max_videos < 0:
        raise ConfigError("--num-frames and --width must be at least 1, --max-videos at least 0")
    labels = read_labels(json_file, "ytvis", ReadOptions(track=_track))
    count = len(labels.videos)
    step = max(count / max_videos, 1.0) if max_videos else 1.0
    videos = [labels.videos[int(i * step)] for i in range(min(count, max_videos or count))]
    title = f"Gallery of {json_file.name}"
    _write_page(gallery_page(labels, frames, title, videos, num_frames=num_frames, width=width, track=_track), out)


@data_app.command()
def split(
    json_file: Json,
    val: Annotated[float, typer.Option(help="Share of the videos for validation.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the videos for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for train.json and so on; by default beside the json.")
    ] = None,
) -> None:
    """Split a json by video into train.json, val.json (and test.json), every class spread over them as far as
    there are videos of it.

    Example: vis data split my/all.json --val 0.2 --out my
    """
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise ConfigError(f"--val {val:g} --test {test:g}: shares between 0 and 1, and something left for training")
    data = read_annotation_file(json_file, "ytvis")
    class_names = check_ids(json_file, data)
    used = _tracks_by_class(data)
    shares = {"train": 1 - val - test, "val": val} | ({"test": test} if test else {})
    try:
        parts = split_videos(data, list(shares.values()), seed)
    except DataError as e:
        raise DataError(f"{json_file}: {e}") from None
    folder = json_file.parent if out is None else out
    for name, ids in zip(shares, parts):
        path = folder / f"{name}.json"
        if path.resolve() == json_file.resolve():
            raise DataError(f"{path}: would be overwritten by a part of itself; name another folder with --out")
        part = part_of(data, ids)
        write_json(part, path)
        counts = _tracks_by_class(part)
        told = ", ".join(f"{class_name} {counts[number]}" for number, class_name in class_names.items())
        print(f"{path}: {len(ids)} videos, {len(part['annotations'])} tracks, {told}")
        lacking = [class_names[number] for number in class_names if used[number] and not counts[number]]
        if lacking:
            typer.echo(f"note: {path} has no track of {', '.join(lacking)}", err=True)


@data_app.command()
def shapes(
    out: Annotated[Path, typer.Argument(help="New folder: gets instances.json and JPEGImages/.")],
    videos: Annotated[int, typer.Option(help="Number of videos.")] = 20,
    length: Annotated[int, typer.Option(help="Frames per video.")] = 12,
    height: Annotated[int, typer.Option(help="Of a frame, in pixels.")] = 128,
    width: Annotated[int, typer.Option(help="Of a frame, in pixels.")] = 192,
    seed: Annotated[int, typer.Option(help="Another seed, other videos.")] = 0,
    difficulty: Annotated[
        float, typer.Option(help="0 (calm, far apart) to 1 (fast, small, crossing, cluttered).")
    ] = 0.2,
    min_objects: Annotated[int, typer.Option(help="Objects per video, at least.")] = 2,
    max_objects: Annotated[int, typer.Option(help="Objects per video, at most (at difficulty 1).")] = 6,
    corners: Annotated[str, typer.Option(help="round or sharp.")] = "round",
    texture: Annotated[str, typer.Option(help="mixed or plain.")] = "mixed",
    shadows: Annotated[bool, typer.Option(help="Objects drop shadows.")] = True,
    image_format: Annotated[str, typer.Option(help="jpg or png.")] = "jpg",
) -> None:
    """Make a ShapesVIS data set: videos of moving shapes with exact labels, to try things on.

    Example: vis data shapes shapes/ --videos 12 --length 10 --seed 3
    """
    config = ShapesConfig(
        num_videos=videos,
        length=length,
        height=height,
        width=width,
        seed=seed,
        difficulty=difficulty,
        min_objects=min_objects,
        max_objects=max_objects,
        corners=corners,
        texture=texture,
        shadows=shadows,
        image_format=image_format,
    )
    with new_folder(out) as partial, tempfile.TemporaryDirectory(dir=partial) as made:
        json_file, image_root = generate_shapes(made, config)
        for path in (json_file, image_root):
            path.rename(partial / path.name)
    print(f"{videos} videos of {length} frames: {out / 'instances.json'}, frames relative to {out / 'JPEGImages'}")


@data_app.command()
def frames(
    videos: Annotated[list[Path], typer.Argument(help="Video files.")],
    out: Annotated[Path, typer.Option(help="Folder: gets a new folder per video.")],
    every: Annotated[int, typer.Option(help="Keep one of so many frames.")] = 1,
    short_side: Annotated[int | None, typer.Option(help="Shrink larger frames so far, in pixels.")] = None,
) -> None:
    """Write the frames of videos as images, to label and to train on.

    Example: vis data frames a.mp4 b.mp4 --out my/frames --every 5 --short-side 720
    """
    for path in videos:
        source = open_video(path)
        with progress(f"reading {path.name}", len(source)) as advance:
            count = extract_frames(source, out / path.stem, every, short_side, advance)
        print(f"{out / path.stem}: {count} frames")


def _keep(path: Path) -> None:
    """Copy a file that is about to be replaced to the first free one of .bak, .bak2 and so on."""
    backup, number = path.with_name(f"{path.name}.bak"), 1
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.bak{number}")
    with replacing(backup) as partial:
        shutil.copyfile(path, partial)


def _write_page(page: str, path: Path) -> None:
    write_text(page, path)
    typer.echo(f"page: {path}", err=True)


def _tracks_by_class(data: dict) -> Counter:
    """Number of tracks by category id."""
    return Counter(entry["category_id"] for entry in data.get("annotations") or [])


def _text(statistics: Statistics) -> str:
    lines = []
    for name, value in statistics.summary().items():
        lines.append(f"{name:<24}{value if isinstance(value, int) else format(value, '.2f'):>10}")
    width = max(len(entry.name) for entry in statistics.classes)
    lines += ["", f"{'class'.ljust(width)}  {'tracks':>7} {'videos':>7} {'masks':>8} {'frames per track':>17}"]
    for entry in sorted(statistics.classes, key=lambda entry: -entry.tracks):
        counts = f"{entry.tracks:>7} {entry.videos:>7} {entry.masks:>8} {entry.frames_per_track:>17.1f}"
        lines.append(f"{entry.name.ljust(width)}  {counts}")
    if statistics.occlusion_levels:
        levels = ", ".join(f"{name} {count}" for name, count in statistics.occlusion_levels.most_common())
        lines += ["", f"occlusion as annotated: {levels}"]
    names = [entry.name for entry in statistics.classes]
    pairs = [(int(statistics.meetings[i, j]), i, j) for i in range(len(names)) for j in range(i + 1)]
    met = [f"{names[i]} + {names[j]} {count}" for count, i, j in sorted(pairs, reverse=True)[:8] if count]
    lines += ["", f"classes that meet in a video: {', '.join(met) or 'none'}"]
    return "\n".join(lines)
