"""Dividing videos into parts so that every class is spread over them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vis_core.data.annotation_file import fail, integer_field, is_key_of, read_annotations, read_categories
from vis_core.errors import DataError


def check_ids(json_file: str | Path, data: dict) -> dict[int, str]:
    """Class names by category id, once everything that a split goes by fits together.

    Raises DataError naming ``json_file`` and the field: of categories, ids of videos, references of annotations.
    """
    names = read_categories(json_file, data)
    videos: dict[int, dict] = {}
    for number, entry in enumerate(data["videos"]):
        where = f"{json_file}: entry {number} of 'videos'"
        if not isinstance(entry, dict):
            fail(where, "id", "is missing")
        video_id = integer_field(where, entry, "id", positive=False)
        if video_id in videos:
            fail(f"{json_file}: video {video_id}", "id", "occurs twice")
        videos[video_id] = entry
    for entry in read_annotations(json_file, data):
        where = f"{json_file}: annotation {entry.get('id')}"
        for field, known, what in (("video_id", videos, "videos"), ("category_id", names, "categories")):
            if not is_key_of(entry.get(field), known):
                fail(where, field, f"{entry.get(field)!r} is not among the file's {what}")
    return names


def split_videos(data: dict, shares: Sequence[float], seed: int = 0) -> list[list[int]]:
    """Video ids (ascending) of each part.

    The rarest class goes first: its videos are dealt to the parts that still want most of it, as in iterative
    stratification (Sechidis, Tsoumakas, Vlahavas, ECML 2011). What is counted is tracks, because a video may have many.

    Args:
        data: contents of a YouTube-VIS json.
        shares: how much of the videos each part gets; they add up to 1, and no part stays empty.
        seed: decides between equals.

    Raises DataError if there are fewer videos than parts.
    """
    ids = sorted(video["id"] for video in data["videos"])
    if len(ids) < len(shares):
        raise DataError(f"{len(ids)} videos cannot be split into {len(shares)} parts")
    room = _sizes(len(ids), shares)
    tracks: dict[int, Counter] = {number: Counter() for number in ids}
    for annotation in data.get("annotations") or []:
        tracks[annotation["video_id"]][annotation["category_id"]] += 1
    totals = sum(tracks.values(), Counter())
    wanted = [{category: share * count for category, count in totals.items()} for share in shares]
    parts: list[list[int]] = [[] for _ in shares]
    left = list(ids)
    random.Random(seed).shuffle(left)
    while left:
        videos_of = Counter(category for number in left for category in tracks[number])
        rarest = min(videos_of, key=lambda category: (videos_of[category], category), default=None)
        turn = [number for number in left if rarest is None or rarest in tracks[number]]
        turn.sort(key=lambda number: -tracks[number][rarest])  # many first: few can still be balanced out
        for number in turn:
            open_parts = [p for p in range(len(shares)) if room[p]]
            part = max(open_parts, key=lambda p: (wanted[p].get(rarest, 0), room[p] / shares[p]))
            parts[part].append(number)
            room[part] -= 1
            for category, count in tracks[number].items():
                wanted[part][category] -= count
        left = [number for number in left if number not in set(turn)]
    return [sorted(part) for part in parts]


def part_of(data: dict, video_ids: Sequence[int]) -> dict:
    """The contents of ``data`` that are about some videos; all else (categories, info) is kept."""
    chosen = set(video_ids)
    return {
        **data,
        "videos": [video for video in data["videos"] if video["id"] in chosen],
        "annotations": [entry for entry in data.get("annotations") or [] if entry["video_id"] in chosen],
    }


def _sizes(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers near ``count * shares`` that add up to ``count``, none of them 0."""
    exact = [count * share for share in shares]
    sizes = [max(1, math.floor(value)) for value in exact]
    while sum(sizes) != count:
        step = 1 if sum(sizes) < count else -1
        movable = [p for p in range(len(sizes)) if step > 0 or sizes[p] > 1]
        sizes[max(movable, key=lambda p: step * (exact[p] - sizes[p]))] += step
    return sizes
