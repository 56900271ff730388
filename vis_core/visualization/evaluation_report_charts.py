"""Charts of the evaluation report, as HTML and SVG text: no script, no outside file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 46, 12, 420, 300  # of the large precision-recall plot, in px


def number(value: float | None, decimals: int = 1) -> str:
    """Percent with fixed decimals, a dash where undefined."""
    return "–" if value is None or value != value or value < 0 else f"{100 * value:.{decimals}f}"


def cards(values: dict[str, str]) -> str:
    """Large numbers with their names below."""
    return "".join(
        f'<div class="card"><b>{escape(text)}</b><span>{escape(name)}</span></div>' for name, text in values.items()
    )


def category_bars(rows: Sequence[tuple[str, float, float, int, int]]) -> str:
    """One row per class: name, AP (bar), AP50 (tick), numbers of objects and tracks. NaN: the class has no objects."""
    head = "".join(f'<span class="head num">{text}</span>' for text in ("AP", "AP50", "objects", "tracks"))
    lines = [f'<div class="bars"><span></span><span class="head">AP, and AP50 as a tick</span>{head}']
    for name, ap, ap50, objects, tracks in rows:
        bar = ""
        if ap == ap:
            bar = f'<i style="width:{100 * ap:.2f}%"></i><u style="left:{100 * ap50:.2f}%"></u>'
        cells = "".join(f'<span class="num">{text}</span>' for text in (number(ap), number(ap50), objects, tracks))
        lines.append(f'<span class="name">{escape(name)}</span><span class="track">{bar}</span>{cells}')
    return "".join(lines) + "</div>"


def precision_recall(curves: Sequence[tuple[str, np.ndarray]]) -> str:
    """Precision over recall, one line for each (label, precision at evenly spaced recalls)."""
    parts = [
        f'<svg class="plot" viewBox="0 0 {_LEFT + _PLOT_WIDTH + 130} {_TOP + _PLOT_HEIGHT + 44}" role="img" '
        'aria-label="precision over recall">'
    ]
    for step in range(6):
        x, y = _LEFT + _PLOT_WIDTH * step / 5, _TOP + _PLOT_HEIGHT * (1 - step / 5)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_TOP + _PLOT_HEIGHT}M{_LEFT} {y:.1f}h{_PLOT_WIDTH}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _PLOT_HEIGHT + 18}" text-anchor="middle">{step / 5:.1f}</text>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{step / 5:.1f}</text>')
    parts.append(
        f'<text x="{_LEFT + _PLOT_WIDTH / 2}" y="{_TOP + _PLOT_HEIGHT + 38}" text-anchor="middle">recall</text>'
    )
    for index, (label, precision) in enumerate(curves):
        parts.append(f'<path class="line c{index}" d="{_path(precision, _LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT)}"/>')
        y = _TOP + 14 + 20 * index
        x = _LEFT + _PLOT_WIDTH + 14
        parts.append(
            f'<path class="line c{index}" d="M{x} {y - 4}h18"/><text x="{x + 24}" y="{y}">{escape(label)}</text>'
        )
    return "".join(parts) + "</svg>"


def small_precision_recall(name: str, curves: Sequence[np.ndarray]) -> str:
    """A small multiple of :func:`precision_recall` without labels on its axes (both from 0 to 1)."""
    lines = "".join(f'<path class="line c{i}" d="{_path(c, 1, 1, 128, 88)}"/>' for i, c in enumerate(curves))
    return (
        '<figure><svg class="small" viewBox="0 0 130 90" role="img"><rect class="frame" x="1" y="1" width="128" '
        f'height="88"/>{lines}</svg><figcaption>{escape(name)}</figcaption></figure>'
    )


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> str:
    """Rows: classes of objects, and "nothing"; columns: classes of tracks, and "missed". Empty classes are left out."""
    used = [k for k in range(len(names)) if counts[k].any() or counts[:, k].any()]
    rows, columns = [*used, len(names)], [*used, len(names)]
    head = "".join(f"<th><div>{escape(names[k] if k < len(names) else 'missed')}</div></th>" for k in columns)
    lines = [f'<table class="confusion"><tr><th class="corner">object \\ track</th>{head}</tr>']
    for r in rows:
        total = max(1, counts[r].sum())
        cells = []
        for c in columns:
            if r == c == len(names):
                cells.append("<td></td>")
                continue
            kind = "right" if r == c else "wrong"
            share = counts[r, c] / total
            text = counts[r, c] if counts[r, c] else ""
            cells.append(f'<td class="{kind}" style="--share:{100 * share:.0f}%">{text}</td>')
        lines.append(f"<tr><th>{escape(names[r] if r < len(names) else 'nothing')}</th>{''.join(cells)}</tr>")
    return "".join(lines) + "</table>"


def error_bars(rows: Sequence[tuple[str, str, float, int]]) -> str:
    """One row a kind of error: name, explanation, AP50 it costs (bar; NaN: undefined), number."""
    largest = max([cost for _, _, cost, _ in rows if cost == cost] + [0.01])
    lines = [
        '<div class="bars errors"><span></span><span class="head">AP50 that repairing it would gain</span>'
        '<span class="head num">gain</span><span class="head num">count</span><span></span>'
    ]
    for name, explanation, cost, count in rows:
        width = 100 * max(cost, 0) / largest if cost == cost else 0
        gain = f"{100 * cost:.1f}" if cost == cost else number(None)
        lines.append(
            f'<span class="name">{escape(name)}</span><span class="track"><i class="bad" '
            f'style="width:{width:.2f}%"></i></span><span class="num">{gain}</span>'
            f'<span class="num">{count}</span><span class="note">{escape(explanation)}</span>'
        )
    return "".join(lines) + "</div>"


def _path(precision: np.ndarray, left: float, top: float, width: float, height: float) -> str:
    """SVG path of a curve over evenly spaced recalls from 0 to 1."""
    x = left + width * np.linspace(0, 1, len(precision))
    y = top + height * (1 - np.asarray(precision))
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y))
