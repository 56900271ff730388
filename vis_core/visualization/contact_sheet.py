"""One image of a whole video: evenly spaced frames in a grid."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vis_core.atomic import replacing
from vis_core.errors import DataError
from vis_core.visualization.labels import blit, render_label

_GAP = 6  # pixels between pictures
_GROUND = (24, 26, 29)


class ContactSheet:
    """Collects pictures of a video of ``num_frames``: call :meth:`add` for every frame, then :meth:`save`.

    Args:
        num_frames: T. Of fewer frames than places each is shown once.
        columns, rows: of the grid, filled row by row.
        width: pixels of a picture.
    """

    def __init__(self, num_frames: int, columns: int = 4, rows: int = 3, width: int = 400):
        places = min(columns * rows, num_frames)
        self.frames = np.unique(np.linspace(0, num_frames - 1, places).round().astype(int)).tolist()
        self._columns = min(columns, len(self.frames))
        self._width = width
        self._pictures: list[np.ndarray] = []

    def add(self, index: int, frame: np.ndarray, drawn: np.ndarray) -> None:
        """Take ``drawn`` (h, w, 3) uint8 RGB if frame ``index`` has a place. ``frame`` is not used."""
        if index not in self.frames:
            return
        height = round(drawn.shape[0] * self._width / drawn.shape[1])
        picture = cv2.resize(drawn, (self._width, height), interpolation=cv2.INTER_AREA)
        tag = render_label(str(index), _GROUND, 13)
        blit(picture, tag, (4, height - tag.shape[0] - 4))
        self._pictures.append(picture)

    def image(self) -> np.ndarray:
        """The sheet, uint8 RGB. Raises ValueError if no picture was added."""
        if not self._pictures:
            raise ValueError("a contact sheet without pictures")
        height, width = self._pictures[0].shape[:2]
        rows = -(-len(self._pictures) // self._columns)
        size = (rows * (height + _GAP) + _GAP, self._columns * (width + _GAP) + _GAP, 3)
        sheet = np.full(size, _GROUND, np.uint8)
        for place, picture in enumerate(self._pictures):
            y, x = (_GAP + step * (side + _GAP) for step, side in zip(divmod(place, self._columns), (height, width)))
            sheet[y : y + height, x : x + width] = picture
        return sheet

    def save(self, path: str | Path) -> Path:
        """Write the sheet as .jpg or .png; folders are made. Raises DataError if that fails."""
        path, image = Path(path), np.ascontiguousarray(self.image()[:, :, ::-1])
        with replacing(path) as partial:
            try:
                written = cv2.imwrite(str(partial), image)
            except cv2.error as e:
                raise DataError(f"{path}: cannot be written ({e.err})") from e
            if not written:
                raise DataError(f"{path}: cannot be written")
        return path
