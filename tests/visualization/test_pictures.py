"""Contact sheets, panels, score bars."""

import numpy as np
import pytest

from vis_core.data import open_video
from vis_core.errors import DataError
from vis_core.evaluation import GroundTruth
from vis_core.tube import Tube, encode_masks
from vis_core.visualization.colors import track_color
from vis_core.visualization.contact_sheet import ContactSheet
from vis_core.visualization.labels import render_label
from vis_core.visualization.overlay import OverlayDrawer, write_overlay
from vis_core.visualization.side_by_side import SideBySide, ground_truth_tubes, video_id_of

HEIGHT, WIDTH = 360, 480


def box_mask(x0, y0, x1, y1):
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


@pytest.fixture
def truth(tmp_path):
    runs = [20 * HEIGHT, 10, WIDTH * HEIGHT - 20 * HEIGHT - 10]
    return GroundTruth(
        {
            "videos": [
                {
                    "id": v,
                    "height": HEIGHT,
                    "width": WIDTH,
                    "length": 2,
                    "file_names": [f"{name}/0.jpg", f"{name}/1.jpg"],
                }
                for v, name in ((3, "walk"), (5, "run"))
            ],
            "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
            "annotations": [
                {"id": 1, "video_id": 5, "category_id": 9, "segmentations": [box_mask(9, 9, 150, 150), None]},
                {
                    "id": 2,
                    "video_id": 5,
                    "category_id": 4,
                    "segmentations": [{"size": [HEIGHT, WIDTH], "counts": runs}, None],
                },
            ],
        }
    )


@pytest.mark.parametrize(("num_frames", "shown", "grid"), [(1, 1, (1, 1)), (5, 5, (2, 4)), (300, 12, (3, 4))])
def test_contact_sheet(num_frames, shown, grid, tmp_path):
    sheet = ContactSheet(num_frames, width=200)
    for t in range(num_frames):
        sheet.add(t, None, np.full((30, 60, 3), 255 * t // num_frames, np.uint8))
    assert len(sheet.frames) == shown and sheet.frames[0] == 0 and sheet.frames[-1] == num_frames - 1
    image = sheet.image()
    assert image.shape == (grid[0] * 106 + 6, grid[1] * 206 + 6, 3)
    first, last = image[20, 40], image[(grid[0] - 1) * 106 + 20, ((shown - 1) % 4) * 206 + 40]
    assert first[0] == 0 and last[0] == 255 * (num_frames - 1) // num_frames
    assert sheet.save(tmp_path / "sheet.png").stat().st_size > 0
    for place in ("sheet.png/sheet.png", "sheet.nothing"):  # below a file; of an unknown kind
        with pytest.raises(DataError, match=f"{place}: cannot be written"):
            sheet.save(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("counts", ["oooooo", [100000, 100000, 5], "", [-1, HEIGHT * WIDTH + 1], [1.5]])
def test_malformed_masks_are_named_instead_of_drawn(counts, truth):
    track = truth._entries.of(5)[1][1]
    track["segmentations"] = [None, {"size": [HEIGHT, WIDTH], "counts": counts}]
    with pytest.raises(DataError, match="ground truth: video 5, annotation 2, frame 1: "):
        ground_truth_tubes(truth, 5)
    drawer = OverlayDrawer([Tube(0, 1.0, track["segmentations"], 0)], ["cat"], HEIGHT, WIDTH)
    with pytest.raises(DataError, match="mask: "):
        drawer.draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1)


def test_panels(truth, tmp_path):
    tubes, names = ground_truth_tubes(truth, 5)
    assert names == ["cat", "dog"] and [tube.category for tube in tubes] == [1, 0]
    frames = np.full((2, HEIGHT, WIDTH, 3), 128, np.uint8)
    drawer = OverlayDrawer(tubes, names, HEIGHT, WIDTH)
    prediction = [Tube(0, 0.9, [box_mask(200, 200, 300, 280)] * 2, 4)]
    with SideBySide(tmp_path / "panels.mp4", 10, drawer) as panels:
        write_overlay(open_video(frames), prediction, ["cat"], tmp_path / "overlay.mp4", sinks=[panels.add])
    image = open_video(tmp_path / "panels.mp4")[0].astype(int)
    top = image.shape[0] - HEIGHT
    assert image.shape[1] == 3 * WIDTH + 12 and 10 < top < 40
    parts = [image[top:, x : x + WIDTH] for x in (0, WIDTH + 6, 2 * WIDTH + 12)]
    assert abs(parts[0] - 128).max() < 12
    expected = 0.55 * 128 + 0.45 * np.array(track_color(4))
    np.testing.assert_allclose(parts[1][230:260, 230:260].mean((0, 1)), expected, atol=6)
    expected = 0.55 * 128 + 0.45 * np.array(track_color(0))
    np.testing.assert_allclose(parts[2][100:140, 60:140].mean((0, 1)), expected, atol=6)


def test_ground_truth_is_labelled_without_a_score():
    tube = Tube(0, 1.0, [box_mask(200, 200, 300, 280)], 4)
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    with_score, without = (OverlayDrawer([tube], ["thing"], HEIGHT, WIDTH, scores=s).draw(frame, 0) for s in (1, 0))
    tag = render_label("thing 4", track_color(4), 12)
    opaque = tag[..., 3] == 255  # the letters
    x, y = 200, 200 - tag.shape[0] - 2  # a label stands above its object
    for drawn, is_so in ((with_score, False), (without, True)):
        right = drawn[y : y + tag.shape[0], x + tag.shape[1] : x + tag.shape[1] + 10]
        assert (right == 128).all() == is_so
    letters = without[y : y + tag.shape[0], x : x + tag.shape[1]][opaque].astype(int)
    np.testing.assert_allclose(letters, tag[..., :3][opaque], atol=2)


def test_which_video_of_the_ground_truth(truth, tmp_path):
    assert video_id_of(truth, tmp_path / "run") == 5 and video_id_of(truth, tmp_path / "walk.mp4") == 3
    with pytest.raises(DataError, match="0 videos are called 'swim'; say which one with --gt-video ID"):
        video_id_of(truth, tmp_path / "swim.mp4")
    with pytest.raises(DataError, match="there is no video 7"):
        ground_truth_tubes(truth, 7)


def test_score_bars_show_the_frames_own_score():
    tube = Tube(0, 0.5, [box_mask(200, 200, 300, 280)] * 2, 4, frame_scores=[0.25, None])
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    width = render_label("thing 4  0.50", track_color(4), 12).shape[1]
    filled = []
    for t in (0, 1):
        drawn = OverlayDrawer([tube], ["thing"], HEIGHT, WIDTH, score_bars=True).draw(frame, t)
        row = (drawn[195, 200 : 200 + width] == track_color(4)).all(axis=1)
        assert row[0] and not row[-1]
        filled.append(row.sum() / width)
    np.testing.assert_allclose(filled, [0.25, 0.5], atol=0.02)
