"""What a tracker remembers of the objects it has seen.

Shapes: M objects in memory, N objects to store.
"""

from __future__ import annotations

from collections.abc import Collection

import torch


class ExemplarMemory:
    """The last known state of every object, as rows of aligned tensors.

    Memory use depends on the number of objects held, not on the number of frames seen. Rows stand in the order
    in which their ids were first stored.

    Attributes:
        ids: M identities, one per row.
        last_frames: M frame indices, when each object was stored last.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.last_frames: list[int] = []
        self._fields: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Field ``name`` of all objects, (M, ...)."""
        return self._fields[name]

    def update(
        self, ids: list[int], frame: int, fields: dict[str, torch.Tensor], write_once: Collection[str] = ()
    ) -> None:
        """Store objects, known or new. Of an id that is given twice the last one stays.

        Args:
            ids: N identities.
            frame: index of the frame they were seen in.
            fields: tensors (N, ...); the names must be the same in every call.
            write_once: fields that keep an object's first value for ever.
        """
        if not ids:
            return
        row_of = {id_: row for row, id_ in enumerate(self.ids)}
        source = {id_: i for i, id_ in enumerate(ids)}  # the last of equals, in order of first appearance
        known = [id_ for id_ in source if id_ in row_of]
        new = [id_ for id_ in source if id_ not in row_of]
        old_rows = [row_of[id_] for id_ in known]
        for name, values in fields.items():
            stored = self._fields.get(name)
            if known and name not in write_once:
                stored[old_rows] = values[[source[id_] for id_ in known]]
            if new:
                born = values[[(ids.index(id_) if name in write_once else source[id_]) for id_ in new]]
                self._fields[name] = born if stored is None else torch.cat([stored, born])
        for row in old_rows:
            self.last_frames[row] = frame
        self.ids += new
        self.last_frames += [frame] * len(new)

    def evict(self, frame: int, num_frames_retain: int) -> None:
        """Forget every object that was stored last ``num_frames_retain`` frames before ``frame`` or earlier."""
        keep = [row for row, last in enumerate(self.last_frames) if frame - last < num_frames_retain]
        if len(keep) == len(self.ids):
            return
        self.ids = [self.ids[row] for row in keep]
        self.last_frames = [self.last_frames[row] for row in keep]
        self._fields = {name: values[keep] for name, values in self._fields.items()}
