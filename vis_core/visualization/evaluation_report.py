"""A results file's evaluation as one HTML page: scores, curves, errors, confusion, and the worst videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from vis_core.atomic import write_text
from vis_core.evaluation import GroundTruth, Results, TrackMetrics, evaluate_splits
from vis_core.evaluation.diagnosis import KINDS, Diagnosis, diagnose
from vis_core.visualization import evaluation_report_charts as charts
from vis_core.visualization.evaluation_report_pictures import picture_pair

NUM_WORST = 12
_CURVES = {0: "0.50", 2: "0.60", 4: "0.70", 6: "0.80", 8: "0.90"}  # index of the IoU threshold
_EXPLANATIONS = {
    "class": "covers an object, but of another class",
    "localisation": "follows an object with masks that do not fit",
    "association": "fits frame by frame, but loses its object or switches to another",
    "both": "masks do not fit, and the class is another",
    "duplicate": "the object is taken by a track of higher score",
    "background": "there is no object",
    "missed": "objects that no track comes near",
}


def write_report(
    path: str | Path,
    ground_truth: GroundTruth,
    results: Results,
    metrics: TrackMetrics,
    *,
    boundary: TrackMetrics | None = None,
    hota: dict[str, float] | None = None,
    frames: Path | None = None,
    min_score: float = 0.5,
    video_ids: Sequence[int] | None = None,
    strict_lengths: bool = True,
) -> None:
    """Write the page, which needs no other file.

    Args:
        metrics: of the results, by class.
        boundary: tube-boundary metrics to show as well.
        hota: HOTA and its parts in percent to show as well.
        frames: folder of the videos' frames (``file_names`` are relative to it); None: no pictures.
        min_score: tracks below take no part in error counts, confusion and pictures.
        video_ids: the videos that ``metrics`` are about (all by default).
        strict_lengths: as of :func:`vis_core.evaluation.evaluate_tracks`.
    """
    template = Template((Path(__file__).parent / "evaluation_report.html").read_text(encoding="utf-8"))
    diagnosis = diagnose(ground_truth, results, min_score=min_score, video_ids=video_ids)
    selected = sorted(ground_truth.videos if video_ids is None else set(video_ids))
    num_objects = sum(ground_truth.count(video_id) for video_id in selected)
    num_tracks = sum(results.count(video_id) for video_id in selected)
    page = template.substitute(
        title=escape(f"Evaluation of {Path(results.name).name}"),
        subtitle=escape(
            f"{results.name} against {ground_truth.name}: "
            f"{len(selected)} videos, {num_objects} objects, {num_tracks} tracks"
        ),
        cards=charts.cards({name: charts.number(value) for name, value in metrics.stats.items()}),
        extra_cards=_extra_cards(boundary, hota),
        categories=charts.category_bars(_category_rows(metrics, diagnosis)),
        curves=charts.precision_recall(_mean_curves(metrics)),
        multiples="".join(_class_curves(metrics)),
        ap50=charts.number(diagnosis.ap50),
        min_score=f"{min_score:g}",
        errors=charts.error_bars(_error_rows(diagnosis)),
        confusion=charts.confusion_table(
            diagnosis.confusion, [ground_truth.categories[category] for category in diagnosis.category_ids]
        ),
        videos_note=_videos_note(frames),
        videos="".join(_video_blocks(ground_truth, results, diagnosis, selected, frames, min_score, strict_lengths)),
    )
    write_text(page, path)


def _extra_cards(boundary: TrackMetrics | None, hota: dict[str, float] | None) -> str:
    blocks = []
    if boundary is not None:
        values = {f"boundary {name}": charts.number(value) for name, value in boundary.stats.items()}
        blocks.append(f'<div class="cards">{charts.cards(values)}</div>')
    if hota is not None:
        values = {name: charts.number(value / 100) for name, value in hota.items()}
        blocks.append(f'<div class="cards">{charts.cards(values)}</div>')
    return "".join(blocks)


def _category_rows(metrics: TrackMetrics, diagnosis: Diagnosis) -> list[tuple[str, float, float, int, int]]:
    """Best classes first, those without objects last."""
    objects = diagnosis.confusion[:-1].sum(axis=1)
    tracks = Counter(track.category_id for track in diagnosis.tracks)
    rows = [
        (category["name"], category["AP"], category["AP50"], int(objects[k]), tracks[category_id])
        for k, (category_id, category) in enumerate(metrics.per_category.items())
    ]
    return sorted(rows, key=lambda row: -row[1] if row[1] == row[1] else 1)


def _mean_curves(metrics: TrackMetrics) -> list[tuple[str, np.ndarray]]:
    curves = []
    for threshold, label in _CURVES.items():
        values = _precision(metrics)[threshold]  # (101, K)
        values = values[:, values[0] > -1]
        if values.size:
            curves.append((f"IoU {label}: {charts.number(values.mean())}", values.mean(axis=1)))
    return curves


def _class_curves(metrics: TrackMetrics) -> list[str]:
    blocks = []
    for k, category in enumerate(metrics.per_category.values()):
        values = _precision(metrics)[:, :, k]
        if values[0, 0] > -1:
            name = f"{category['name']} {charts.number(category['AP'])}"
            blocks.append(charts.small_precision_recall(name, [values[0], values[5]]))
    return blocks


def _precision(metrics: TrackMetrics) -> np.ndarray:
    """Precision (S, P, K) for all areas, all occlusion levels and the highest limit on detections."""
    precision = metrics.precision[..., -1]
    return precision[:, :, :, 0] if precision.ndim == 4 else precision[:, :, :, 0, 0]


def _error_rows(diagnosis: Diagnosis) -> list[tuple[str, str, float, int]]:
    counts = diagnosis.counts()
    return [(kind, _EXPLANATIONS[kind], diagnosis.cost[kind], counts[kind]) for kind in KINDS]


def _videos_note(frames: Path | None) -> str:
    if frames is None:
        return "By the AP of each video alone. With the folder of frames given there are pictures here."
    return (
        "By the AP of each video alone. Left: ground truth. Right: results; correct tracks have their object's colour."
    )


def _video_blocks(
    ground_truth: GroundTruth,
    results: Results,
    diagnosis: Diagnosis,
    selected: Sequence[int],
    frames: Path | None,
    min_score: float,
    strict_lengths: bool,
) -> list[str]:
    alone = evaluate_splits(
        ground_truth, results, {str(video): [video] for video in selected}, strict_lengths=strict_lengths
    )
    stats = {video: alone[str(video)].stats for video in selected if alone[str(video)].stats["AP"] >= 0}
    blocks = []
    for video in sorted(stats, key=lambda video: stats[video]["AP"])[:NUM_WORST]:
        verdicts = [track for track in diagnosis.tracks if track.video_id == video]
        errors = Counter(track.kind for track in verdicts if track.score >= min_score and track.kind in KINDS)
        errors["missed"] = sum(1 for missed_in, *_ in diagnosis.missed if missed_in == video)
        told = ", ".join(f"{errors[kind]} {kind}" for kind in KINDS if errors[kind]) or "no errors"
        names = ground_truth.videos[video].file_names
        name = f"video {video}" + (f" ({Path(names[0]).parent})" if names else "")
        scores = f"AP {charts.number(stats[video]['AP'])}, AP50 {charts.number(stats[video]['AP50'])}"
        pair = None
        if frames is not None:
            pair = picture_pair(ground_truth, results, video, verdicts, frames, min_score)
        pictures = "" if pair is None else "".join(f'<img src="{data}" alt="">' for data in pair)
        blocks.append(
            f'<div class="video"><h3>{escape(name)}</h3><span class="soft">{scores}; {escape(told)}</span>'
            f'<div class="pair">{pictures}</div></div>'
        )
    return blocks
