"""Pictures of the evaluation report: one frame of a video with its ground truth and, beside it, its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vis_core.data.paths import leads_out
from vis_core.evaluation.diagnosis import TrackVerdict
from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.results import Results
from vis_core.rle import area, compressed
from vis_core.tube import Tube
from vis_core.visualization.data_uri import jpeg_uri
from vis_core.visualization.overlay import OverlayDrawer

_WIDTH = 480  # px of a picture
_QUALITY = 82


def picture_pair(
    ground_truth: GroundTruth,
    results: Results,
    video_id: int,
    verdicts: Sequence[TrackVerdict],
    frames: Path,
    min_score: float,
) -> tuple[str, str] | None:
    """Data URIs of two JPEGs, ground truth and results, of the frame in which most objects can be seen.

    A correct track has the colour of its object. None if that frame's file is missing or not of the video's size, or
    its name leads out of ``frames``.
    """
    video = ground_truth.videos[video_id]
    objects = ground_truth.tracks(video_id)
    length = min([len(track.segmentations) for track in objects] + [len(video.file_names)])
    if not objects or not length:
        return None
    frame = max(range(length), key=lambda t: _visible([track.segmentations[t] for track in objects]))
    file = frames / video.file_names[frame]
    if leads_out(video.file_names[frame]) or not file.is_file():  # OpenCV would print a warning of its own
        return None
    image = cv2.imread(str(file))
    if image is None or image.shape[:2] != video.size:
        return None
    names = [ground_truth.categories[category] for category in ground_truth.category_ids]
    class_of = {category: k for k, category in enumerate(ground_truth.category_ids)}
    color_of = {track.id: number for number, track in enumerate(objects)}
    truth = [
        Tube(class_of[track.category_id], 1.0, [compressed(track.segmentations[frame])], color_of[track.id])
        for track in objects
        if track.category_id in class_of
    ]
    verdict_of = {verdict.position: verdict for verdict in verdicts}
    found = []
    for number, track in enumerate(results.tracks(video_id)):
        verdict = verdict_of.get(track.position)
        if verdict is None or track.score < min_score or frame >= len(track.segmentations):
            continue
        right = verdict.kind == "correct"
        color = color_of[verdict.object_id] if right else len(objects) + number
        found.append(Tube(class_of[track.category_id], track.score, [compressed(track.segmentations[frame])], color))
    return _draw(image, truth, names, scores=False), _draw(image, found, names, scores=True)


def _visible(masks: Sequence[dict | None]) -> tuple[int, int]:
    """Number of objects that can be seen in a frame, and their area."""
    areas = [area(mask) for mask in masks if mask]
    return len(areas), sum(areas)


def _draw(image: np.ndarray, tubes: Sequence[Tube], names: Sequence[str], scores: bool) -> str:
    fitting = [
        tube for tube in tubes if not tube.segmentations[0] or tuple(tube.segmentations[0]["size"]) == image.shape[:2]
    ]
    scale = max(1, round(_WIDTH / image.shape[1]))  # labels of small videos need room
    drawer = OverlayDrawer(fitting, names, *image.shape[:2], scale, scores=scores)
    return jpeg_uri(drawer.draw(image[:, :, ::-1], 0), _QUALITY, _WIDTH)
