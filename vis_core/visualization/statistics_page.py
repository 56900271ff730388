"""A data set's statistics as one HTML page: no script, no outside file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from vis_core.data.statistics import OCCLUSION_LEVELS, Statistics, histogram

_WIDTH, _HEIGHT, _BASE = 320, 150, 118  # of a plot, px; _BASE is the height of its axis
_DIGIT = 6.4  # px: the width of a digit in an axis' font
_MOST_SIZES = 5  # frame sizes whose labels fit below their bars


def statistics_page(statistics: Statistics, title: str, subtitle: str) -> str:
    """The page's text."""
    template = Template((Path(__file__).parent / "statistics_page.html").read_text(encoding="utf-8"))
    plots = [
        ("Frames per video", "videos", statistics.video_lengths),
        ("Frames per track", "tracks, by frames in which they can be seen", statistics.track_lengths),
        ("Objects per frame", "frames", statistics.objects_per_frame),
        ("Tracks per video", "videos", statistics.tracks_per_video),
        ("Mask size", "masks, by the square root of their share of the frame", statistics.mask_sides),
        ("Motion", "masks, by the way to the next frame in units of their own side", statistics.motion),
        ("Box occlusion", "frames, by the share of boxes that lies under several", statistics.box_occlusion),
        ("Returns", "tracks, by how often they vanish and come back", statistics.gaps),
    ]
    figures = [_figure(name, what, histogram(values)) for name, what, values in plots]
    if statistics.occlusion_levels:
        bars = [(name.split("_")[0], statistics.occlusion_levels[name]) for name in OCCLUSION_LEVELS]
        figures.append(_figure("Occlusion, as annotated", "masks", bars))
    sizes = [(name.replace(" x ", "×"), count) for name, count in statistics.frame_sizes.most_common(_MOST_SIZES)]
    shown = f"videos, the {len(sizes)} most frequent of {len(statistics.frame_sizes)} sizes"
    figures.append(_figure("Frame size", shown if len(sizes) < len(statistics.frame_sizes) else "videos", sizes))
    names = [entry.name for entry in statistics.classes]
    return template.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        cards="".join(_card(name, value) for name, value in statistics.summary().items()),
        classes=_class_table(statistics),
        plots="".join(figures),
        meetings=_meetings_table(statistics.meetings, names),
    )


def _card(name: str, value: float) -> str:
    text = f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
    return f'<div class="card"><b>{text}</b><span>{escape(name)}</span></div>'


def _class_table(statistics: Statistics) -> str:
    rows = ["<tr><th>class</th><th>tracks</th><th>videos</th><th>masks</th><th>frames per track</th></tr>"]
    for entry in sorted(statistics.classes, key=lambda entry: -entry.tracks):
        cells = (f"{entry.tracks:,}", f"{entry.videos:,}", f"{entry.masks:,}", f"{entry.frames_per_track:.1f}")
        rows.append(f"<tr><td>{escape(entry.name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def _figure(name: str, what: str, bars: Sequence[tuple[str, int]]) -> str:
    """A bar chart; every bar's tooltip says its number."""
    caption = f"<figcaption><b>{escape(name)}</b>{escape(what)}</figcaption>"
    if not bars:
        return f"<figure>{caption}<p class='soft'>none</p></figure>"
    largest = max(max(count for _, count in bars), 1)
    step = _WIDTH / len(bars)
    # As many labels as fit. The last bar has one in any case: it may stand for a long tail.
    every = math.ceil((max(len(label) for label, _ in bars) + 0.5) * _DIGIT / step)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">']
    for i, (label, count) in enumerate(bars):
        height = 100 * count / largest
        parts.append(
            f'<rect x="{i * step + 1:.1f}" y="{_BASE - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
            f"<title>{escape(label)}: {count:,}</title></rect>"
        )
        if (len(bars) - 1 - i) % every == 0:
            middle = (i + 0.5) * step
            parts.append(f'<text x="{middle:.1f}" y="{_BASE + 14}" text-anchor="middle">{escape(label)}</text>')
    parts.append(f'<path d="M0 {_BASE}H{_WIDTH}"/><text x="0" y="10">{largest:,}</text></svg>')
    return f"<figure>{caption}{''.join(parts)}</figure>"


def _meetings_table(meetings: np.ndarray, names: Sequence[str]) -> str:
    largest = max(int(meetings.max(initial=0)), 1)
    head = "".join(f"<th><div>{escape(name)}</div></th>" for name in names)
    rows = [f"<tr><th></th>{head}</tr>"]
    for name, row in zip(names, meetings.tolist()):
        cells = "".join(f'<td style="--share:{100 * v / largest:.0f}%">{v or ""}</td>' for v in row)
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<table class="meetings">{"".join(rows)}</table>'
