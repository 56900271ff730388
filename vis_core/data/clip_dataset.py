"""Everything a training clip can be made from, addressed by (source, item, seed)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from vis_core.data.clip_instances import NOT_VISIBLE
from vis_core.data.filtering import annotated_frames
from vis_core.data.seeding import seeded
from vis_core.errors import ConfigError, DataError, VisError

UNITS = ("video", "frame", "key_frame")
REDRAWS = 100


class ClipSource:
    """The records of one data set, the mapper for them, and what counts as one item of an epoch.

    Args:
        unit: "video": one item a record; "frame": one for each frame; "key_frame": one for each frame with a usable
            object. The mapper is called as ``mapper(record, frame)``, frame None for whole videos and images.
    """

    def __init__(self, name: str, records: Sequence[dict], mapper: Callable[..., dict], unit: str = "video"):
        if unit not in UNITS:
            raise ConfigError(f"INPUT.SAMPLING_UNIT '{unit}' is unknown; known: {', '.join(UNITS)}")
        self.name = name
        self.mapper = mapper
        self.items: list[tuple[int, int | None]] = [
            (i, frame) for i, record in enumerate(records) for frame in _frames_of(record, unit)
        ]
        if not self.items:
            raise DataError(f"data set '{name}' has nothing to train on: no {unit.replace('_', ' ')} is left")
        # One byte buffer instead of a million objects, which worker processes can share without copying it.
        self.records = DatasetFromList(list(records), copy=False)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> dict:
        record, frame = self.items[item]
        return self.mapper(self.records[record], frame)


class ClipDataset(Dataset):
    """Clips of several sources. ``dataset[(source, item, seed)]`` is the same clip whenever and wherever it is made.

    A VisError is returned, not raised: a worker process would wrap it in its traceback. The loader raises it.

    Args:
        redraw_empty: a clip that shows no object is replaced by a random other one of its source.
    """

    def __init__(self, sources: Sequence[ClipSource], redraw_empty: bool = False):
        self.sources = list(sources)
        self.redraw_empty = redraw_empty

    def __getitem__(self, key: tuple[int, int, int]) -> dict | VisError:
        source, item, seed = key
        try:
            with seeded(seed):
                return {**self._clip(self.sources[source], item), "seed": seed}
        except VisError as e:
            return e

    def _clip(self, source: ClipSource, item: int) -> dict:
        clip = source[item]
        if not self.redraw_empty:
            return clip
        for _ in range(REDRAWS):
            if any(bool((frame.gt_ids != NOT_VISIBLE).any()) for frame in clip["instances"]):
                return clip
            clip = source[random.randrange(len(source))]
        raise DataError(f"data set '{source.name}': no object in {REDRAWS} clips drawn one after the other")


def _frames_of(record: dict, unit: str) -> Sequence[int | None]:
    if unit == "video" or "file_names" not in record:
        return [None]
    return range(record["length"]) if unit == "frame" else annotated_frames(record)
