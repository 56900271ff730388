"""Charts of the prediction report as SVG text: when tracks can be seen, and curves over the frames."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

import numpy as np

_LEFT, _TOP, PLOT_WIDTH, _PLOT_HEIGHT = 52, 10, 980, 190
_MAX_POINTS = 1000  # of a curve; longer videos are averaged over pieces


def runs(visible: Sequence[bool]) -> list[tuple[int, int]]:
    """The stretches of True as (start, end), end exclusive."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(visible, np.int8), [0]])))
    return [(int(start), int(end)) for start, end in steps.reshape(-1, 2)]


def timeline_bar(visible: Sequence[bool], color: str) -> str:
    """One track's bar: as wide as the video is long, filled where the track can be seen."""
    rects = "".join(f'<rect x="{start}" y="0" width="{end - start}" height="10"/>' for start, end in runs(visible))
    return (
        f'<svg class="bar" viewBox="0 0 {max(len(visible), 1)} 10" preserveAspectRatio="none" fill="{color}" '
        f'stroke="{color}">{rects}</svg>'
    )


def curves(values: Sequence[Sequence[float | None]], colors: Sequence[str], unit: str, top: float | None = None) -> str:
    """A line a track over the frames of the video, with gaps where the value is None.

    Args:
        values: by track, then by frame.
        unit: what the vertical axis counts, for screen readers and the axis.
        top: the axis's end; by default a round number above the greatest value.
    """
    num_frames = max((len(line) for line in values), default=0)
    known = [v for line in values for v in line if v is not None]
    top = top or _round_up(max(known, default=1.0))
    width, height = _LEFT + PLOT_WIDTH + 12, _TOP + _PLOT_HEIGHT + 26
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(unit)} over frames">']
    for step in range(5):
        y = _TOP + _PLOT_HEIGHT * (1 - step / 4)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}h{PLOT_WIDTH}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>')
    for frame in frame_ticks(num_frames):
        x = _LEFT + PLOT_WIDTH * (frame + 0.5) / max(num_frames, 1)
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _PLOT_HEIGHT + 18}" text-anchor="middle">{frame}</text>')
    for number, (line, color) in enumerate(zip(values, colors)):
        path, dots = _path(line, num_frames, top)
        parts.append(f'<path class="line" data-track="{number}" stroke="{color}" d="{path}"/>')
        parts += [f'<circle data-track="{number}" fill="{color}" cx="{x}" cy="{y}" r="2"/>' for x, y in dots]
    parts.append(f'<path class="cursor" d="M{_LEFT} {_TOP}v{_PLOT_HEIGHT}"/></svg>')
    return "".join(parts)


def frame_ticks(num_frames: int, at_most: int = 9) -> list[int]:
    """Frame numbers from 0 in steps of 1, 2, 5, 10, 20, 50, ... to label an axis with."""
    steps = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
    return list(range(0, num_frames, next(step for step in steps if num_frames <= step * at_most)))


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9)))


def _path(line: Sequence[float | None], num_frames: int, top: float) -> tuple[str, list[tuple[float, float]]]:
    """The SVG path, and the points that have no neighbour, of which a path shows nothing."""
    values = np.array([np.nan if v is None else v for v in line], float)
    piece = -(-num_frames // _MAX_POINTS)
    places = np.arange(len(values)) + 0.5
    if piece > 1:
        padded = np.concatenate([values, np.full(-len(values) % piece, np.nan)]).reshape(-1, piece)
        counts = np.isfinite(padded).sum(axis=1)
        values = np.where(counts > 0, np.nansum(padded, axis=1) / np.maximum(counts, 1), np.nan)
        places = (np.arange(len(values)) + 0.5) * piece
    x = _LEFT + PLOT_WIDTH * places / max(num_frames, 1)
    y = _TOP + _PLOT_HEIGHT * (1 - np.clip(values / top, 0, 1))
    path, dots = [], []
    for start, end in runs(np.isfinite(values)):
        points = [(round(float(a), 1), round(float(b), 1)) for a, b in zip(x[start:end], y[start:end])]
        if len(points) == 1:
            dots += points
        path.append("M" + "L".join(f"{a:g} {b:g}" for a, b in points))
    return "".join(path), dots
