"""Statistics against counting by hand and against pixels."""

import numpy as np
import pytest

from vis_core.data.formats import Labels, Track, Video
from vis_core.data.formats.regions import mask_rle
from vis_core.data.statistics import box_occlusion, data_statistics, histogram


def rle(x0, y0, x1, y1, height=20, width=40):
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask_rle(mask)


@pytest.fixture
def statistics():
    video = Video("a", 20, 40, [f"a/{t}.jpg" for t in range(5)], id=1)
    video.tracks = [
        Track("1", "cat", {0: rle(0, 0, 8, 8), 1: rle(4, 0, 12, 8), 4: rle(4, 0, 12, 8)}, id=1),
        Track("2", "dog", {0: rle(4, 0, 12, 8)}, id=2),
        Track("3", "dog", {0: rle(0, 0, 1, 1)}, iscrowd=True, id=3),
    ]
    other = Video("b", 20, 40, ["b/0.jpg"], [Track("4", "dog", {0: rle(0, 0, 4, 4)}, id=4)], id=2)
    raw = {"annotations": [{"occlusion": ["no_occlusion", None, "severe_occlusion"]}, {}]}
    return data_statistics(Labels([video, other], {"cat": 1, "dog": 2}), raw)


def test_counts(statistics):
    summary = statistics.summary()
    assert {name: summary[name] for name in ("videos", "frames", "tracks", "masks", "classes")} == {
        "videos": 2,
        "frames": 6,
        "tracks": 3,
        "masks": 5,
        "classes": 2,
    }
    assert summary["tracks that come back"] == 1 and statistics.track_spans == [5, 1, 1]
    assert [(entry.name, entry.tracks, entry.videos, entry.masks) for entry in statistics.classes] == [
        ("cat", 1, 1, 3),
        ("dog", 2, 2, 2),
    ]
    assert statistics.objects_per_frame == [2, 1, 0, 0, 1, 1]
    assert statistics.meetings.tolist() == [[0, 1], [1, 0]]
    assert statistics.occlusion_levels == {"no_occlusion": 1, "severe_occlusion": 1}


def test_sizes_and_motion(statistics):
    assert statistics.motion == [0.5], "half of its side, and only between frames in a row"
    assert statistics.mask_sides[0] == pytest.approx(8 / np.sqrt(800))
    assert statistics.box_occlusion == [pytest.approx(4 * 8 / (12 * 8)), 0, 0, 0]


def test_box_occlusion_against_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = rng.integers(0, 20, (rng.integers(1, 6), 2))
        boxes = np.concatenate([corners, rng.integers(1, 15, corners.shape)], axis=1)
        pixels = np.zeros((40, 40), int)
        for x, y, w, h in boxes:
            pixels[y : y + h, x : x + w] += 1
        assert box_occlusion(boxes.astype(float)) == pytest.approx((pixels > 1).sum() / (pixels > 0).sum())


def test_histogram():
    assert histogram([1, 1, 3]) == [("1", 2), ("2", 0), ("3", 1)]
    bars = histogram(list(range(100)), 10)
    assert bars[0] == ("0–9", 10) and sum(count for _, count in bars) == 100
    assert histogram([0.1, 0.5, 1.1], 4) == [("0.0", 1), ("0.5", 1), ("1.0", 1)]
    tail = histogram([0.01] * 99 + [7.0], 5)
    assert tail[0] == ("0.000", 0) and tail[-1] == ("≥ 0.008", 100)
    assert histogram([]) == []


def test_page_tells_the_numbers(statistics):
    from vis_core.visualization.statistics_page import statistics_page

    statistics.classes[0].name = "<cat>"
    page = statistics_page(statistics, "Title", "sub")
    assert "&lt;cat&gt;" in page and "<cat>" not in page
    assert "<b>6</b><span>frames</span>" in page
    assert "http" not in page and "<script" not in page, "the page needs nothing else"
