"""The memory that one key frame's objects are found with.

Shapes: N objects, M entries, S positions, D and E channels of keys and values.
"""

from __future__ import annotations

import torch

from projects.seq_mask_rcnn.propagation import read_memory, read_memory_by_chunks


class MemoryBank:
    """Entries of keys and values, in space reserved once.

    Without a cap it keeps everything, as the released code does. With one, the first entry (the key frame's) always
    stays, and the newest replaces another one.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, frame: int, size: int, rule: str | None = None):
        """
        Args:
            keys, values: the first entry, (N, 1, S, D) and (N, 1, S, E).
            frame: its frame.
            size: entries to make room for.
            rule: what to do when a further entry comes: "least_used" replaces the entry with the smallest share of
                the reads since it came, "even" the one closest to its neighbours in time; None: there is none.
        """
        self._keys = keys.new_empty(len(keys), size, *keys.shape[2:])
        self._values = values.new_empty(len(values), size, *values.shape[2:])
        self.rule = rule
        self.frames: list[int] = []
        self._used: list[float | torch.Tensor] = []
        self._reads: list[int] = []
        self.append(keys, values, frame)

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, query_key: torch.Tensor, objects: slice = slice(None)) -> torch.Tensor:
        """(N, E, g, v), of all or some of the objects, for a frame's query (1, D, g, v)."""
        num = len(self)
        keys, values = self._keys[objects, :num], self._values[objects, :num]
        if self.rule != "least_used":
            return read_memory(keys, values, query_key)
        out, shares = read_memory_by_chunks(keys, values, query_key)
        for i in range(num):
            self._used[i] = self._used[i] + shares[i]
            self._reads[i] += 1
        return out

    def append(self, keys: torch.Tensor, values: torch.Tensor, frame: int) -> None:
        """Store a frame's entry, (N, 1, S, D) and (N, 1, S, E)."""
        if self.frames and self._keys.shape[1] == 1:
            return
        if len(self) < self._keys.shape[1]:
            slot = len(self)
            self.frames.append(frame)
            self._used.append(0.0)
            self._reads.append(0)
        else:
            slot = self._to_replace(frame)
            self.frames[slot], self._used[slot], self._reads[slot] = frame, 0.0, 0
        self._keys[:, slot] = keys[:, 0]
        self._values[:, slot] = values[:, 0]

    def _to_replace(self, frame: int) -> int:
        if self.rule == "least_used":
            shares = [float(used) / max(reads, 1) for used, reads in zip(self._used, self._reads)]
            # An entry that was never read has no share yet; it is the last one's successor at the earliest.
            return min(range(1, len(self)), key=lambda i: (self._reads[i] == 0, shares[i]))
        order = sorted(range(len(self)), key=lambda i: abs(self.frames[i] - self.frames[0]))
        times = [self.frames[i] for i in order] + [frame]
        gaps = [abs(after - before) for before, after in zip(times, times[2:])]
        return order[1 + gaps.index(min(gaps))] if gaps else order[-1]
