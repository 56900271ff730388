"""Decoded tubes of one video: the form in which all evaluation code looks at masks.

Shapes: N tracks, M masks (all non-null frames of all tracks, track by track), T the longest track's number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vis_core import rle
from vis_core.errors import DataError


@dataclass(frozen=True)
class DecodedTubes:
    """The masks of N tracks as foreground intervals (see :mod:`vis_core.rle`).

    Attributes:
        index: int32 (N, T), the number of track n's mask in frame t, or -1 for null and past the track's end.
        lengths: int64 (N,), entries of each track's list.
        sizes: int64 (M, 2), height and width of each mask.
        areas: int64 (M,).
        first: int64 (M + 1,); mask m has the intervals ``first[m]`` to ``first[m + 1]`` of ``starts`` and ``ends``.
        starts, ends: int32, ascending within a mask. Tracks decoded for their areas only have none.
    """

    index: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray
    first: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def num_tracks(self) -> int:
        return len(self.lengths)

    def frame_areas(self) -> np.ndarray:
        """int64 (N, T), 0 where there is no mask."""
        return np.where(self.index >= 0, np.append(self.areas, 0)[self.index], 0)

    def average_areas(self) -> np.ndarray:
        """float64 (N,), the mean of each track's non-zero areas, 0 if it has none (rule 2.1 of the metric)."""
        areas = self.frame_areas()
        return areas.sum(axis=1) / np.maximum((areas > 0).sum(axis=1), 1)

    def with_intervals(self, first: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> DecodedTubes:
        """The same tracks with other masks of the same sizes (their boundaries, say)."""
        total = np.concatenate([[0], np.cumsum(ends - starts, dtype=np.int64)])
        return replace(self, first=first, starts=starts, ends=ends, areas=np.diff(total[first]))


def decode_tubes(
    tracks: Sequence[Sequence[dict | None]],
    describe: Callable[[int], str],
    wanted: Sequence[bool] | None = None,
) -> DecodedTubes:
    """Decode the tracks of one video.

    Args:
        tracks: N lists of RLEs (counts as str, bytes or list of runs) or falsy for "no mask".
        describe: words for track n, for error messages.
        wanted: of tracks where this is False only the areas are computed.

    Raises:
        DataError: naming track, frame and what is wrong, if an RLE is malformed.
    """
    masks, frames, owners = [], [], []
    for track, segmentations in enumerate(tracks):
        here = [frame for frame, mask in enumerate(segmentations) if mask]
        masks += [segmentations[frame] for frame in here]
        frames += here
        owners += [track] * len(here)

    def where(mask: int) -> str:
        return f"{describe(owners[mask])}, frame {frames[mask]}"

    chars, begins = _join_counts(masks, where)
    sizes = _sizes(masks, where)
    lengths = np.array([len(segmentations) for segmentations in tracks], np.int64)
    owners_array = np.array(owners, np.int64)
    index = np.full((len(tracks), int(lengths.max(initial=0))), -1, np.int32)
    index[owners_array, np.array(frames, np.int64)] = np.arange(len(masks), dtype=np.int32)
    mask_wanted = np.ones(len(masks), bool) if wanted is None else np.asarray(wanted, bool)[owners_array]
    starts, ends, first, areas, bad = rle.decode_many(chars, begins, sizes[:, 0] * sizes[:, 1], mask_wanted)
    if bad >= 0:
        raise DataError(f"{where(bad)}: {rle.problem_of(areas[bad])}")
    return DecodedTubes(index, lengths, sizes, areas, first, starts, ends)


def _join_counts(masks: list[dict], where: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """All counts strings in one uint8 buffer, and where each begins (int64 (M + 1,))."""
    try:
        counts = [mask["counts"] for mask in masks]
    except (TypeError, KeyError, IndexError):
        bad = next(m for m, mask in enumerate(masks) if not isinstance(mask, dict) or "counts" not in mask)
        raise DataError(f"{where(bad)}: a segmentation is neither null nor an RLE with 'size' and 'counts'") from None
    try:
        joined = "".join(counts).encode("ascii")  # by far the most frequent spelling, and the fastest way through it
    except (TypeError, UnicodeEncodeError):
        counts = [rle.counts_as_bytes(c, where(m)) for m, c in enumerate(counts)]
        joined = b"".join(counts)
    begins = np.zeros(len(counts) + 1, np.int64)
    np.cumsum([len(c) for c in counts], out=begins[1:])
    return np.frombuffer(joined, np.uint8), begins


def _sizes(masks: list[dict], where: Callable[[int], str]) -> np.ndarray:
    """int64 (M, 2)."""
    sizes = [mask.get("size") for mask in masks]
    if sizes and sizes.count(sizes[0]) == len(sizes):  # the rule, and quick to find out
        return np.tile(np.array(rle.check_size(sizes[0], where(0)), np.int64), (len(sizes), 1))
    return np.array([rle.check_size(size, where(m)) for m, size in enumerate(sizes)], np.int64).reshape(-1, 2)
