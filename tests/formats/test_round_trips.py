"""YouTube-VIS -> each format -> YouTube-VIS: ids, classes, crowds, file names and every pixel."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vis_core.data.formats import FORMATS, Labels, Track, Video, detect_format, read_labels, sidecar, write_labels
from vis_core.data.formats.regions import mask_rle
from vis_core.tube import decode_mask

ONE_OBJECT_A_PIXEL = {"davis", "mots", "mots-png"}
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="/\\."), min_size=1, max_size=8
).filter(lambda name: name.strip() == name)


@st.composite
def data_sets(draw, overlaps: bool):
    """Up to three videos of a few small frames; objects come and go, and may be a single pixel or the whole frame."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    class_names = draw(st.lists(NAMES, min_size=1, max_size=12, unique=True))
    class_ids = rng.choice(np.arange(1, 60), len(class_names), replace=False).tolist()
    labels = Labels(categories=dict(sorted(zip(class_names, class_ids), key=lambda x: x[1])))
    video_names = draw(st.lists(NAMES, min_size=1, max_size=3, unique_by=str.casefold))
    video_ids = sorted(rng.choice(np.arange(1, 1000), len(video_names), replace=False).tolist())
    track_ids = iter(rng.choice(np.arange(1, 10_000), 100, replace=False).tolist())
    for name, number in zip(video_names, video_ids):
        height, width, length = rng.integers(1, 14), rng.integers(1, 14), rng.integers(1, 5)
        video = Video(name, int(height), int(width), [f"{name}/{t * 5:05d}.jpg" for t in range(length)], id=number)
        free = np.ones((length, height, width), bool)
        for _ in range(rng.integers(0, 5)):
            masks = {}
            for t in range(length):
                kind = rng.integers(4)
                mask = np.zeros((height, width), bool)
                if kind == 1:
                    mask[rng.integers(height), rng.integers(width)] = True
                elif kind == 2:
                    mask = rng.random((height, width)) < rng.random()
                elif kind == 3:
                    mask[:] = True
                if not overlaps:
                    mask &= free[t]
                    free[t] &= ~mask
                if mask.any():
                    masks[t] = mask_rle(mask)
            if masks:
                category = class_names[rng.integers(len(class_names))]
                crowd = bool(overlaps and rng.random() < 0.2)
                video.tracks.append(Track("", category, masks, crowd, next(track_ids)))
        labels.videos.append(video)
    for video in labels.videos:
        for track in video.tracks:
            track.key = str(track.id)
    return labels


def facts(labels: Labels) -> dict:
    """Everything that a YouTube-VIS json holds, with masks as pixels."""
    return {
        "categories": labels.categories,
        "videos": {
            video.id: (video.height, video.width, video.file_names, sorted(track.id for track in video.tracks))
            for video in labels.videos
        },
        "tracks": {
            track.id: (track.category, track.iscrowd, {t: decode_mask(rle).tobytes() for t, rle in track.masks.items()})
            for video in labels.videos
            for track in video.tracks
        },
    }


def there_and_back(labels: Labels, name: str, folder: Path, keep_sidecar: bool = True) -> Labels:
    start = folder / "start.json"
    write_labels(copy.deepcopy(labels), start)
    out = folder / ("there.json" if FORMATS[name].is_file else "there")
    write_labels(read_labels(start), out, name)
    if not keep_sidecar:
        (out / sidecar.NAME).unlink()
    assert detect_format(out) == ("mots" if name == "mots-png" else name)
    write_labels(read_labels(out), folder / "back.json")
    return read_labels(folder / "back.json")


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_lost(name):
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data_sets(overlaps=name not in ONE_OBJECT_A_PIXEL))
    def check(labels):
        with tempfile.TemporaryDirectory() as folder:
            assert facts(there_and_back(labels, name, Path(folder))) == facts(labels)

    check()
