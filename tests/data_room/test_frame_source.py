"""Frame sources: the same frames whichever way they are asked for, and clear errors for broken input."""

import logging
import pickle
import struct
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vis_core.data.frame_base import FrameReader, FrameSource
from vis_core.data.frame_source import natural_key, open_video
from vis_core.data.mapper import read_frame
from vis_core.data.prefetch import prefetch
from vis_core.errors import DataError

HEIGHT, WIDTH, LENGTH = 48, 64, 24


def scene(length=LENGTH, height=HEIGHT, width=WIDTH):
    """Distinct frames: a bright bar over noise moves down, so that turned frames are told apart."""
    noise = np.random.default_rng(0).integers(0, 120, (height, width, 3), dtype=np.uint8)
    frames = np.repeat(noise[None], length, axis=0)
    for t, frame in enumerate(frames):
        frame[2 * t % height : 2 * t % height + 4, : width // 2] = (250, 10 * t % 250, 60)
    return frames


def write_video(path, frames, codec="libx264", gop=8, b_frames=2, durations=None, options=None, faststart=False):
    """Encode with PyAV; ``durations`` in milliseconds, repeated, give a variable frame rate."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if faststart else {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        if durations:
            stream.codec_context.time_base = Fraction(1, 1000)
        clock = 0
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if durations:
                frame.pts, frame.time_base = clock, Fraction(1, 1000)
                clock += durations[i % len(durations)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_plainly(path):
    """All frames by PyAV's own loop."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture
def folder(tmp_path):
    for t, frame in enumerate(scene(12)):
        Image.fromarray(frame).save(tmp_path / f"f{t}.png")
    return tmp_path


def assert_consistent(source, frames):
    """Iteration, forward, backward and jumping access all give ``frames``."""
    assert len(source) == len(frames)
    assert (source.height, source.width) == frames[0].shape[:2]
    assert source[0].dtype == np.uint8
    order = np.random.default_rng(1).integers(0, len(frames), 15).tolist()
    for t in (*order, *range(len(frames) - 1, -1, -1), -1):
        np.testing.assert_array_equal(source[t], frames[t], err_msg=f"frame {t}")
    for t, frame in enumerate(source):
        np.testing.assert_array_equal(frame, frames[t], err_msg=f"frame {t}")
    with pytest.raises(IndexError):
        source[len(frames)]


def test_folder_in_natural_order(folder):
    (folder / "notes.txt").write_text("no frame")
    (folder / "._f0.png").write_bytes(b"no frame either")
    source = open_video(folder)
    assert isinstance(source, FrameSource) and source.fps == 10.0 and source.name == str(folder)
    assert_consistent(source, scene(12))
    assert open_video(folder, fps=6).fps == 6


def test_names_that_go_on_from_others_come_after_them():
    names = ["clip", "Clip", "clip2", "clip10", "clip10b", "clips"]
    assert sorted(reversed(names), key=natural_key) == ["Clip", "clip", *names[2:]]


def test_list_of_paths_keeps_its_order(folder):
    paths = [str(folder / f"f{t}.png") for t in (3, 0, 11)]
    assert_consistent(open_video(paths), scene(12)[[3, 0, 11]])


def test_single_image(folder):
    assert_consistent(open_video(folder / "f2.png"), scene(12)[2:3])


def test_images_become_rgb_upright(tmp_path):
    array = scene(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(array).save(tmp_path / "0.png", exif=exif)
    np.testing.assert_array_equal(open_video(tmp_path)[0], np.rot90(array, -1))
    Image.fromarray(array[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(open_video(tmp_path / "grey.png")[0], np.repeat(array[..., :1], 3, axis=2))
    Image.fromarray(array).convert("RGBA").save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(open_video(tmp_path / "rgba.png")[0], array)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_images_of_16_bits_keep_their_upper_8(tmp_path, dtype):
    values = (scene(1)[0][..., 0].astype(np.uint16) << 8) + 77
    name = str(tmp_path / ("0.png" if dtype == "<u2" else "0.tif"))
    Image.fromarray(values.astype(dtype)).save(name)
    np.testing.assert_array_equal(open_video([name])[0], np.repeat(scene(1)[0][..., :1], 3, axis=2))
    record = {"height": HEIGHT, "width": WIDTH}
    np.testing.assert_array_equal(read_frame(name, "BGR", record, "training"), open_video([name])[0], "training")


def test_images_whose_values_have_no_known_range(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "0.tif")
    with pytest.raises(DataError, match=r"0\.tif \(frame 0\): .*its pixels are floating-point numbers"):
        open_video([str(tmp_path / "0.tif")])[0]
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "1.tif")
    with pytest.raises(DataError, match=r"1\.tif \(frame 0\): .*more than 16 bits"):
        open_video([str(tmp_path / "1.tif")])[0]


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_an_animation_in_an_image_file_is_refused(tmp_path, suffix):
    first, *others = map(Image.fromarray, scene(3))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
    with pytest.raises(DataError, match=rf"a\.{suffix} \(frame 0\): .*an animation of 3 images: save it as \.gif"):
        open_video(tmp_path / f"a.{suffix}")[0]


def test_arrays():
    assert_consistent(open_video(scene()), scene())
    assert_consistent(open_video(list(scene())), scene())
    with pytest.raises(DataError, match=r"frame 0: expected uint8 .*float64"):
        open_video(np.zeros((2, 4, 4, 3)))[0]
    source = open_video(scene())
    assert open_video(source) is source


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("plain.mp4", {"b_frames": 0}),
        ("b_frames.mp4", {"b_frames": 3}),
        ("open_gop.mp4", {"options": {"x264-params": "open-gop=1:keyint=8:log-level=none"}}),
        ("refresh.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=8:log-level=none"}}),
        ("vfr.mp4", {"durations": (20, 55, 33, 80)}),
        ("matroska.mkv", {}),
        ("stream.ts", {}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("mpeg2.mpg", {"codec": "mpeg2video"}),
        ("vp8.webm", {"codec": "libvpx", "b_frames": 0}),
        ("raw.h264", {}),
    ],
)
def test_video_access_is_exact(tmp_path, name, kwargs):
    path = write_video(tmp_path / name, scene(), **kwargs)
    frames = decode_plainly(path)
    assert len(frames) == LENGTH
    assert_consistent(open_video(path), frames)


def test_video_frame_rate(tmp_path):
    assert open_video(write_video(tmp_path / "a.mp4", scene())).fps == 25
    vfr = write_video(tmp_path / "b.mp4", scene(), durations=(20, 60))
    assert open_video(vfr).fps == pytest.approx(25, rel=0.05)
    assert open_video(vfr, fps=7).fps == 7


# Matrices of QuickTime's track header (a, b, c, d) and what they do to a frame.
TURNS = {
    "90": ((0, 1, -1, 0), lambda x: np.rot90(x, -1, (1, 2))),
    "180": ((-1, 0, 0, -1), lambda x: x[:, ::-1, ::-1]),
    "270": ((0, -1, 1, 0), lambda x: np.rot90(x, 1, (1, 2))),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, :, ::-1]),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_in_metadata_is_applied(tmp_path, turn):
    path = write_video(tmp_path / "a.mp4", scene())
    frames = np.stack(decode_plainly(path))
    (a, b, c, d), apply = TURNS[turn]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 20] = struct.pack(">5i", *(v << 16 for v in (a, b, 0, c, d)))
    path.write_bytes(data)
    assert_consistent(open_video(path), apply(frames))


def test_frames_before_the_first_keyframe_are_not_counted(tmp_path):
    """A recording that starts in the middle of a stream."""
    whole = write_video(tmp_path / "a.ts", scene()).read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole[188 * (len(whole) // 188 // 3) :])
    frames = decode_plainly(cut)
    assert 0 < len(frames) < LENGTH
    assert_consistent(open_video(cut), frames)


def test_truncated_video(tmp_path, caplog):
    path = write_video(tmp_path / "a.mp4", scene(), faststart=True)
    frames = decode_plainly(path)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with pytest.raises(DataError, match=rf"{path}: frame (\d+): the file is truncated here") as e:
        open_video(path)
    first_missing = int(str(e.value).split("frame ")[1].split(":")[0])
    assert 4 < first_missing < LENGTH
    with caplog.at_level(logging.WARNING):
        source = open_video(path, skip_bad=True)
    assert "truncated" in caplog.text
    assert_consistent(source, frames[:first_missing])


def test_video_without_its_header(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene())  # the index comes last
    path.write_bytes(path.read_bytes().split(b"moov")[0])
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=f"{path}: cannot be opened as a video"):
            open_video(path, skip_bad=skip_bad)


def test_damaged_video(tmp_path, caplog):
    path = write_video(tmp_path / "a.mp4", scene(), gop=8, b_frames=0, faststart=True)
    good = decode_plainly(path)
    with av.open(str(path)) as container:  # overwrite frames 10 and 11, and so harm the frames up to the next keyframe
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size][10:12]
    data = bytearray(path.read_bytes())
    for start, size in spans:
        data[start : start + size] = bytes(size)
    path.write_bytes(data)

    with pytest.raises(DataError, match=rf"{path}: frame 10 cannot be decoded.*--skip-bad-frames\) goes on"):
        list(open_video(path))
    with pytest.raises(DataError, match="frame 11 cannot be decoded"):
        open_video(path)[11]
    with caplog.at_level(logging.WARNING):
        source = open_video(path, skip_bad=True)
        frames = list(source)
    assert "frame 10 cannot be decoded" in caplog.text
    assert len(frames) == len(source) == LENGTH
    for t in (*range(10), *range(16, LENGTH)):
        np.testing.assert_array_equal(frames[t], good[t])
    np.testing.assert_array_equal(frames[10], good[9])
    np.testing.assert_array_equal(source[11], good[9])


def test_damaged_images(folder, caplog):
    for name in ("f0.png", "f5.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
    (folder / "f6.png").write_bytes(b"")
    source = open_video(folder)
    with pytest.raises(DataError, match=r"f5\.png \(frame 5\): cannot be read as .*--skip-bad-frames\) goes on"):
        source[5]
    with pytest.raises(DataError, match=r"f0\.png \(frame 0\)"):
        list(source)
    with caplog.at_level(logging.WARNING):
        tolerant = open_video(folder, skip_bad=True)
        frames = list(tolerant)
    assert all(f"(frame {t})" in caplog.text for t in (0, 5, 6)) and "goes on without" not in caplog.text
    shown = scene(12)[[1, 1, 2, 3, 4, 4, 4, 7, 8, 9, 10, 11]]
    assert_consistent(tolerant, shown)
    assert_consistent(open_video(folder, skip_bad=True), shown)  # indexing before iterating
    np.testing.assert_array_equal(frames, shown)


def test_nothing_but_damage(tmp_path):
    for t in range(3):
        (tmp_path / f"{t}.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 3 frames can be read"):
        open_video(tmp_path, skip_bad=True)[1]


def test_sizes_that_differ(folder):
    Image.fromarray(scene(1, 10, 10)[0]).save(folder / "f3.png")
    with pytest.raises(DataError, match=r"f3\.png \(frame 3\): size 10x10 differs from the video's 64x48"):
        list(open_video(folder))


def test_what_is_no_video(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_video(tmp_path / "absent.mp4")
    with pytest.raises(DataError, match="holds no images"):
        open_video(tmp_path)
    with pytest.raises(DataError, match="no frames"):
        open_video([])
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(DataError, match="cannot be opened as a video"):
        open_video(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="holds no video stream"):
        open_video(tmp_path / "sound.mp4")
    missing = open_video([str(tmp_path / "gone.jpg")])
    with pytest.raises(DataError, match=r"gone\.jpg \(frame 0\): file not found"):
        missing[0]


def test_sources_travel_to_workers(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene())
    source = open_video(path)
    frame = source[5]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[5], frame)


def test_indexing_while_iterating(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene())
    frames = decode_plainly(path)
    source = open_video(path)
    for t, frame in enumerate(source):
        np.testing.assert_array_equal(source[(7 * t) % LENGTH], frames[(7 * t) % LENGTH])
        np.testing.assert_array_equal(frame, frames[t])


def _prefetch_threads():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


def _wait_until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_prefetch_keeps_order_and_is_bounded(depth):
    started = []

    def items():
        for i in range(20):
            started.append(i)
            yield i

    seen = []
    for item in prefetch(items(), depth):
        if item == 4:
            time.sleep(0.2)  # time to run ahead
            assert len(started) <= 5 + depth + 1  # what was taken, the queue, and one in the thread's hand
        seen.append(item)
    assert seen == list(range(20))
    assert not _prefetch_threads()


def test_prefetch_ends_with_its_consumer():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    iterator = prefetch(items(), 2)
    assert next(iterator) == 0 and len(_prefetch_threads()) == 1
    iterator.close()
    assert _wait_until(lambda: not _prefetch_threads()) and closed == [True]
    for item in prefetch(items(), 2):
        if item == 3:
            break
    del item
    assert _wait_until(lambda: not _prefetch_threads())


def test_prefetch_raises_in_the_consumer():
    def items():
        yield 1
        raise KeyError("in the thread")

    iterator = prefetch(items(), 2)
    assert next(iterator) == 1
    with pytest.raises(KeyError, match="in the thread"):
        next(iterator)
    assert not _prefetch_threads()


def test_memory_does_not_grow_with_length(tmp_path):
    """Frames of a long video are let go: counted by what numpy holds, which the allocator cannot hide."""
    import tracemalloc

    source = open_video(write_video(tmp_path / "a.mp4", scene(200), gop=50))
    list(zip(range(3), source))
    tracemalloc.start()
    try:
        for _ in source:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 25 * HEIGHT * WIDTH * 3 + 300_000


def test_a_reader_that_cannot_read_is_not_made():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (FrameReader,), {})()
