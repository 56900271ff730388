"""A video of panels: input, prediction and, where there is one, ground truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vis_core.errors import DataError
from vis_core.evaluation import GroundTruth
from vis_core.rle import compressed
from vis_core.tube import Tube
from vis_core.visualization.labels import blit, render_label
from vis_core.visualization.overlay import OverlayDrawer
from vis_core.visualization.video_writer import VideoWriter

_MAX_WIDTH = 640  # pixels of a panel
_GAP = 6
_GROUND = (24, 26, 29)


class SideBySide:
    """Writes the panels of every frame to an mp4; a context manager like :class:`VideoWriter`.

    Args:
        path: the file.
        fps: frames per second.
        truth: draws the ground truth; None: two panels. It has the scale of the drawn frames.
    """

    def __init__(self, path: str | Path, fps: float, truth: OverlayDrawer | None = None):
        self._writer = VideoWriter(path, fps)
        self._truth = truth

    def __enter__(self) -> SideBySide:
        self._writer.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._writer.__exit__(*error)

    def add(self, index: int, frame: np.ndarray, drawn: np.ndarray) -> None:
        """Write frame ``index``: (H, W, 3) and, drawn, (scale * H, scale * W, 3), uint8 RGB."""
        panels = {"input": frame, "prediction": drawn}
        if self._truth is not None:
            panels["ground truth"] = self._truth.draw(frame, index)
        width = min(_MAX_WIDTH, drawn.shape[1])
        self._writer.write(_in_a_row(panels, round(drawn.shape[0] * width / drawn.shape[1]), width))


def ground_truth_tubes(truth: GroundTruth, video_id: int) -> tuple[list[Tube], list[str]]:
    """A video's objects as tubes (track ids from 0), and the class names that their categories count in.

    Raises DataError for an unknown video and for malformed masks.
    """
    if video_id not in truth.videos:
        raise DataError(f"{truth.name}: there is no video {video_id}")
    class_of = {category: index for index, category in enumerate(truth.category_ids)}
    tubes = []
    for number, track in enumerate(truth.tracks(video_id)):
        if track.category_id in class_of:
            where = f"{truth.name}: video {video_id}, annotation {track.id}, frame"
            masks = [compressed(mask, f"{where} {t}") for t, mask in enumerate(track.segmentations)]
            tubes.append(Tube(class_of[track.category_id], 1.0, masks, number))
    return tubes, [truth.categories[category] for category in truth.category_ids]


def video_id_of(truth: GroundTruth, video: Path) -> int:
    """The id of the video whose frames lie in a folder of this name; the only one if there is one.

    Raises DataError if that leaves it open which one is meant.
    """
    if len(truth.videos) == 1:
        return next(iter(truth.videos))
    name = video.stem if video.suffix else video.name
    found = [v.id for v in truth.videos.values() if v.file_names and Path(v.file_names[0]).parent.name == name]
    if len(found) != 1:
        raise DataError(f"{truth.name}: {len(found)} videos are called '{name}'; say which one with --gt-video ID")
    return found[0]


def _in_a_row(panels: dict[str, np.ndarray], height: int, width: int) -> np.ndarray:
    tags = {title: render_label(title, _GROUND, 14) for title in panels}
    top = max(tag.shape[0] for tag in tags.values()) + _GAP
    row = np.full((top + height, len(panels) * (width + _GAP) - _GAP, 3), _GROUND, np.uint8)
    for place, (title, picture) in enumerate(panels.items()):
        shrinks = picture.shape[1] > width
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        x = place * (width + _GAP)
        row[top:, x : x + width] = picture
        blit(row, tags[title], (x, _GAP // 2))
    return row
