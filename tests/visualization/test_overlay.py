"""Overlay drawing: colours, labels, masks, and the video file."""

import itertools

import av
import numpy as np
import pytest

from vis_core.data.frame_source import open_video
from vis_core.errors import DataError
from vis_core.tube import Tube, encode_masks
from vis_core.visualization.colors import text_color, track_color
from vis_core.visualization.labels import LabelLayout, render_label
from vis_core.visualization.overlay import OverlayDrawer, write_overlay
from vis_core.visualization.video_writer import VideoWriter

HEIGHT, WIDTH = 360, 480


def box_mask(x0, y0, x1, y1, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return encode_masks(mask[None])[0]


def grey(length=1, height=HEIGHT, width=WIDTH):
    return np.full((length, height, width, 3), 128, dtype=np.uint8)


def test_colours_are_far_apart_and_visible():
    colors = np.array([track_color(i) for i in range(30)], dtype=float)
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors[:12], 2)) > 50
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) > 25
    assert (colors.max(1) - colors.min(1) > 50).all()  # none is grey
    assert track_color(7) == track_color(7) and all(0 <= v <= 255 for v in track_color(10**6))


def test_label_text_contrasts_with_its_ground():
    assert text_color((250, 240, 90)) == (16, 16, 16)
    assert text_color((20, 30, 120)) == (250, 250, 250)


def test_labels_never_overlap_and_stay_inside():
    rng = np.random.default_rng(0)
    layout = LabelLayout(HEIGHT, WIDTH)
    sizes = {k: (60 + 5 * k, 16) for k in range(10)}
    corners = rng.uniform(0, 300, (10, 2))
    velocity = rng.normal(0, 6, (10, 2))
    shown = 0
    for frame in range(60):
        corners += velocity
        boxes = {k: (*corners[k], *(corners[k] + 60)) for k in range(10)}
        placed = layout.place(frame, boxes, sizes)
        shown += len(placed)
        rects = [np.round((x, y, x + sizes[k][0], y + sizes[k][1])) for k, (x, y) in placed.items()]
        for x0, y0, x1, y1 in rects:
            assert x0 >= 0 and y0 >= 0 and x1 <= WIDTH and y1 <= HEIGHT
        for a, b in itertools.combinations(rects, 2):
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    assert shown > 0.95 * 600


def test_labels_rest_on_trembling_boxes_and_follow_moving_ones():
    rng = np.random.default_rng(0)
    layout = LabelLayout(HEIGHT, WIDTH)
    sizes = {0: (50, 14)}
    positions = []
    for frame in range(20):
        x, y = 100 + rng.uniform(-0.7, 0.7, 2)
        positions.append(layout.place(frame, {0: (x, y, x + 40, y + 40)}, sizes)[0])
    assert len(set(positions)) == 1
    for frame in range(20, 60):  # 5 pixels per frame to the right
        x = 100 + 5 * (frame - 19)
        position = layout.place(frame, {0: (x, 100, x + 40, 140)}, sizes)[0]
        assert 0 <= position[0] - positions[-1][0] < 8  # no jump
        positions.append(position)
        assert abs(position[0] - x) < 12
    # After an absence it starts at its object.
    assert layout.place(70, {0: (10, 200, 50, 240)}, sizes)[0][0] == 10


def test_masks_are_tinted_and_outlined():
    tube = Tube(0, 0.9, [box_mask(200, 200, 300, 280)], track_id=4)
    frame = grey()[0]
    image = OverlayDrawer([tube], ["thing"], HEIGHT, WIDTH).draw(frame, 0)
    assert (frame == 128).all() and image.shape == frame.shape
    color = np.array(track_color(4))
    np.testing.assert_allclose(image[240, 250], 0.55 * 128 + 0.45 * color, atol=1)
    np.testing.assert_array_equal(image[240, 200], color)
    changed = (image != frame).any(2)
    changed[200 - 30 : 200, 190:330] = False  # the label, above
    rows, cols = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert 197 <= rows[0] <= 200 and 279 <= rows[-1] <= 282
    assert 197 <= cols[0] <= 200 and 299 <= cols[-1] <= 302


def test_label_of_the_object_is_drawn_above_it():
    tube = Tube(0, 0.9, [box_mask(200, 200, 300, 280)], track_id=4)
    image = OverlayDrawer([tube], ["thing"], HEIGHT, WIDTH).draw(grey()[0], 0)
    tag = render_label("thing 4  0.90", track_color(4), 12)
    above = image[200 - tag.shape[0] - 2 : 198, 200 : 200 + tag.shape[1]]
    alpha = tag[..., 3:] / 255
    assert alpha.mean() > 0.8 and np.ptp(tag[..., :3], axis=(0, 1)).max() > 100  # a filled tag with text on it
    np.testing.assert_allclose(above, alpha * tag[..., :3] + (1 - alpha) * 128, atol=1)


def test_invisible_and_empty_masks_are_skipped():
    segmentations = [None, encode_masks(np.zeros((1, HEIGHT, WIDTH), bool))[0], box_mask(0, 0, 10, 10)]
    drawer = OverlayDrawer([Tube(0, 1.0, segmentations, 0)], [], HEIGHT, WIDTH)
    assert [(drawer.draw(grey()[0], t) != 128).any() for t in range(3)] == [False, False, True]


def test_object_under_several_classes_is_drawn_once():
    shared = [box_mask(200, 200, 300, 280)]
    names = ["cat", "dog"]
    both = [Tube(0, 0.4, shared), Tube(1, 0.7, shared)]
    best = OverlayDrawer([Tube(1, 0.7, shared, track_id=1)], names, HEIGHT, WIDTH).draw(grey()[0], 0)
    np.testing.assert_array_equal(OverlayDrawer(both, names, HEIGHT, WIDTH).draw(grey()[0], 0), best)
    same_id = [Tube(0, 0.4, list(shared), track_id=1), Tube(1, 0.7, list(shared), track_id=1)]
    np.testing.assert_array_equal(OverlayDrawer(same_id, names, HEIGHT, WIDTH).draw(grey()[0], 0), best)


def test_enlarged_drawing():
    tube = Tube(0, 0.9, [box_mask(30, 30, 50, 40, 64, 96)], 0)
    image = OverlayDrawer([tube], ["thing"], 64, 96, scale=4).draw(grey(1, 64, 96)[0], 0)
    assert image.shape == (256, 384, 3)
    np.testing.assert_allclose(image[140, 160], 0.55 * 128 + 0.45 * np.array(track_color(0)), atol=1)


def test_masks_of_another_size_are_refused():
    drawer = OverlayDrawer([Tube(0, 1.0, [box_mask(0, 0, 5, 5, 20, 30)], 3)], [], HEIGHT, WIDTH)
    with pytest.raises(DataError, match=r"frame 0, track 3: mask size \[20, 30\]"):
        drawer.draw(grey()[0], 0)


def test_overlay_video(tmp_path):
    masks = [box_mask(200 + 4 * t, 200, 300 + 4 * t, 280) for t in range(6)]
    source = open_video(grey(6), fps=12.5)
    calls = []
    path = write_overlay(
        source, [Tube(0, 0.9, masks, 4)], ["thing"], tmp_path / "new" / "a.mp4", lambda: calls.append(1)
    )
    video = open_video(path)
    assert (len(video), video.fps, video.height, video.width) == (6, 12.5, HEIGHT, WIDTH)
    assert len(calls) == 6
    expected = 0.55 * 128 + 0.45 * np.array(track_color(4))
    for t, frame in enumerate(video):
        np.testing.assert_allclose(frame[230:250, 230 + 4 * t : 270 + 4 * t].mean((0, 1)), expected, atol=6)
        np.testing.assert_allclose(frame[300:, :100].mean((0, 1)), 128, atol=3)
    with pytest.raises(DataError, match="a tube of 5 frames for a video of 6"):
        write_overlay(source, [Tube(0, 0.9, masks[:5])], ["thing"], tmp_path / "b.mp4")


def test_small_videos_are_enlarged(tmp_path):
    path = write_overlay(open_video(grey(2, 120, 160)), [], [], tmp_path / "a.mp4")
    video = open_video(path)
    assert (video.height, video.width) == (360, 480)


def test_file_plays_in_browsers(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30000 / 1001) as writer:
        for frame in np.random.default_rng(0).integers(0, 255, (5, 33, 47, 3), dtype=np.uint8):
            writer.write(frame)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width) == (34, 48)
        assert (stream.average_rate.numerator, stream.average_rate.denominator) == (30000, 1001)


def test_colours_survive_the_writing(tmp_path):
    for i, color in enumerate([(200, 40, 40), (30, 180, 60), (50, 60, 220), (255, 255, 255), (0, 0, 0)]):
        path = tmp_path / f"{i}.mp4"
        with VideoWriter(path, 10) as writer:
            writer.write(np.full((64, 64, 3), color, dtype=np.uint8))
        np.testing.assert_allclose(open_video(path)[0].mean((0, 1)), color, atol=4)


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with pytest.raises(KeyError), VideoWriter(path, 10) as writer:
        writer.write(grey()[0])
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="in a video of size"), VideoWriter(path, 10) as writer:
        writer.write(grey()[0])
        writer.write(grey(1, 20, 20)[0])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot be written"), VideoWriter(path / "inside" / "b.mp4", 10) as writer:
        writer.write(grey()[0])
