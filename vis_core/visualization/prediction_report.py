"""One video's prediction as one HTML page: player, when each track can be seen, table, curves of area and score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.atomic import write_text
from vis_core.tube import Tube
from vis_core.visualization import prediction_report_charts as charts
from vis_core.visualization.colors import text_color, track_color
from vis_core.visualization.data_uri import file_uri
from vis_core.visualization.overlay import track_name

_NOTHING = (
    "<p>No track has the score that was asked for. <code>vis predict --score</code> with a lower one shows more; "
    "results.json has all of them.</p>"
)


def write_prediction_report(
    path: str | Path,
    *,
    video_name: str,
    size: tuple[int, int],
    fps: float,
    num_frames: int,
    tubes: Mapping[int, Tube],
    class_names: Sequence[str],
    overlay: str | Path,
    pictures: Mapping[int, Sequence[tuple[int, str]]],
    subtitle: str = "",
) -> None:
    """Write the page. It needs no other file and no network: the video is inside.

    Args:
        size: (height, width) of the video.
        tubes: by key (see :func:`vis_core.visualization.overlay.one_per_object`), each of ``num_frames`` entries.
        class_names: by ``Tube.category``.
        overlay: the mp4 to play.
        pictures: by key, (frame, data URI) of small pictures, in order.
        subtitle: one line more, for instance which model this is.
    """
    template = Template((Path(__file__).parent / "prediction_report.html").read_text(encoding="utf-8"))
    tracks = [_Track(key, tube, class_names, size) for key, tube in tubes.items()]
    colors = [track.color for track in tracks]
    scores = [track.tube.frame_scores for track in tracks if track.tube.frame_scores]
    data = {
        "fps": float(fps),
        "frames": num_frames,
        "tracks": [track.data(pictures.get(track.key, ())) for track in tracks],
    }
    seconds = f"{num_frames / fps:.1f} s" if fps else ""
    facts = f"{size[1]}x{size[0]}, {num_frames} frames, {fps:g} frames/s, {seconds}, {len(tracks)} tracks shown"
    page = template.substitute(
        title=escape(f"Prediction of {Path(video_name).name}"),
        subtitle=escape(". ".join(part for part in (facts, subtitle) if part)),
        video=file_uri(overlay, "video/mp4"),
        nothing="" if tracks else _NOTHING,
        hidden="" if tracks else " hidden",
        timeline="".join(track.timeline(number) for number, track in enumerate(tracks)),
        ticks="".join(
            f'<span style="left:{100 * (t + 0.5) / num_frames:.2f}%">{t}</span>' for t in charts.frame_ticks(num_frames)
        ),
        rows="".join(track.row(number) for number, track in enumerate(tracks)),
        areas=charts.curves([track.percent for track in tracks], colors, "percent of the image"),
        scores=(
            charts.curves([track.tube.frame_scores or () for track in tracks], colors, "score", top=1.0)
            if scores
            else '<p class="soft">This model gives one score per track, none per frame.</p>'
        ),
        plot_width=charts.PLOT_WIDTH,
        # "</script>" in a class name must not end the script.
        data=json.dumps(data).replace("<", "\\u003c"),
    )
    write_text(page, path)


class _Track:
    """What the page says of one track."""

    def __init__(self, key: int, tube: Tube, class_names: Sequence[str], size: tuple[int, int]):
        self.key = key
        self.tube = tube
        self.name = track_name(tube, key, class_names)
        rgb = track_color(key)
        self.color, self.ink = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (rgb, text_color(rgb)))
        areas = [int(coco_mask.area(rle)) if rle else 0 for rle in tube.segmentations]
        # Percent of the image, None where the track cannot be seen.
        self.percent = [100 * area / (size[0] * size[1]) if area else None for area in areas]
        self.visible = [area > 0 for area in areas]
        self.runs = charts.runs(self.visible)

    def data(self, pictures: Sequence[tuple[int, str]]) -> dict:
        """For the page's script."""
        return {
            "name": self.name,
            "pictures": [list(picture) for picture in pictures],
            "area": [None if value is None else round(value, 3) for value in self.percent],
            "score": None if not self.tube.frame_scores else [_rounded(v) for v in self.tube.frame_scores],
        }

    def timeline(self, number: int) -> str:
        tag = f'<b style="background:{self.color};color:{self.ink}">{escape(self.name)}</b>'
        return (
            f'<div class="name" data-track="{number}">{tag}</div>'
            f'<div class="lane" data-track="{number}">{charts.timeline_bar(self.visible, self.color)}</div>'
        )

    def row(self, number: int) -> str:
        seen = [value for value in self.percent if value is not None]
        first, last = (self.runs[0][0], self.runs[-1][1] - 1) if self.runs else ("–", "–")
        area = (f"{np.mean(seen):.2f}", f"{max(seen):.2f}") if seen else ("–", "–")
        cells = [f"{self.tube.score:.3f}", len(seen), first, last, max(len(self.runs) - 1, 0), *area]
        name = f'<td><b style="background:{self.color};color:{self.ink}">{escape(self.name)}</b></td>'
        return f'<tr data-track="{number}">{name}{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
