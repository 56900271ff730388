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
        # What share of its reads each entry had, added up, and how many reads these were.
        self._used = torch.zeros(size, device=keys.device)
        self._reads = torch.zeros(size, device=keys.device)
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
        self._used[:num] += shares
        self._reads[:num] += 1
        return out

    def append(self, keys: torch.Tensor, values: torch.Tensor, frame: int) -> None:
        """Store a frame's entry, (N, 1, S, D) and (N, 1, S, E)."""
        if self.frames and self._keys.shape[1] == 1:
            return
        if len(self) < self._keys.shape[1]:
            slot = len(self)
            self.frames.append(frame)
        else:
            slot = self._to_replace(frame)
            self.frames[slot], self._used[slot], self._reads[slot] = frame, 0.0, 0.0
        self._keys[:, slot] = keys[:, 0]
        self._values[:, slot] = values[:, 0]

    def _to_replace(self, frame: int) -> int:
        if self.rule == "least_used":
            shares = self._used / self._reads  # NaN for an entry that was never read, which is a reason to keep it
            return 1 + int(shares[1:].nan_to_num(torch.inf).argmin())
        order = sorted(range(len(self)), key=lambda i: abs(self.frames[i] - self.frames[0]))
        times = [self.frames[i] for i in order] + [frame]
        gaps = [abs(after - before) for before, after in zip(times, times[2:])]
        return order[1 + gaps.index(min(gaps))] if gaps else order[-1]
