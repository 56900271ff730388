"""Prediction of whole videos and of streams."""

import gc
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY

import projects
from vis_core.data import open_video
from vis_core.data.frame_stream import FrameStream
from vis_core.engine import VideoPredictor, VideoTrainer
from vis_core.engine.latency import RECENT, Latency
from vis_core.errors import CheckpointError, ConfigError, DataError
from vis_core.tube import decode_mask


@pytest.fixture
def predictor(small_run, tmp_path):
    options = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.MASKTRACK.REPEATED_IDS", "unique"]
    cfg = small_run(tmp_path, *options, "MODEL.WEIGHTS", str(tmp_path / "model.pth"))
    torch.manual_seed(0)
    torch.save({"model": VideoTrainer.build_model(cfg).state_dict()}, tmp_path / "model.pth")
    return VideoPredictor(cfg)


def moving(number: int):
    for t in range(number):
        frame = np.full((64, 96, 3), 90, np.uint8)
        frame[20:40, 10 + t % 40 : 35 + t % 40] = (220, 60, 40)
        yield frame


def test_a_generator_gives_what_the_frames_give(predictor):
    tubes = predictor(list(moving(6)))
    assert tubes and predictor(moving(6)) == tubes


def test_the_stream_is_what_the_tubes_are_made_of(predictor):
    tubes = {tube.track_id: tube for tube in predictor(list(moving(6)))}
    for video in (moving(6), list(moving(6))):
        frames = list(predictor.stream(video))
        assert len(frames) == 6
        for t, found in enumerate(frames):
            seen = {id_: tube.segmentations[t] for id_, tube in tubes.items() if tube.segmentations[t]}
            assert sorted(found.pred_ids.tolist()) == sorted(seen) and len(seen) > 0
            for id_, mask, score in zip(found.pred_ids.tolist(), found.pred_masks, found.scores.tolist()):
                np.testing.assert_array_equal(decode_mask(seen[id_]), mask.numpy())
                assert tubes[id_].frame_scores[t] == pytest.approx(score)


def test_a_stream_takes_frames_one_by_one_and_has_no_end(predictor):
    taken = []

    def camera():
        for t in itertools.count():
            taken.append(t)
            yield next(moving(1))

    stream = predictor.stream(camera())
    for t in range(3):
        assert next(stream).image_size == (64, 96)
        assert taken == list(range(t + 1))
    assert stream.latency.count == 3
    assert 0 < stream.latency.first <= stream.latency.worst


def test_memory_of_a_stream_is_flat(predictor):
    """Bytes of all tensors alive, and of the process, after 100 and after 500 frames."""

    def held() -> tuple[int, int]:
        gc.collect()
        tensors = {x.data_ptr(): x.nbytes for x in gc.get_objects() if type(x) is torch.Tensor}
        status = Path("/proc/self/statm")
        resident = int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0
        return sum(tensors.values()), resident

    seen = {}
    for t, _ in enumerate(predictor.stream(moving(500))):
        if t in (99, 499):
            seen[t] = held()
    assert t == 499
    assert seen[499][0] - seen[99][0] < 200_000, seen  # the last frame's masks alone may be 120 kB
    assert seen[499][1] - seen[99][1] < 8_000_000, seen  # 500 frames are 9 MB, their results up to 60 MB


def test_a_model_of_the_whole_video_reads_a_generator_to_its_end(predictor):
    class Whole(torch.nn.Module):
        def forward(self, records):
            assert len(records[0]["image"]) == records[0]["length"] == 4
            return [{"tubes": []}]

    predictor.model = Whole()
    assert predictor(moving(4)) == []
    with pytest.raises(ConfigError, match="Whole needs the whole video at once"):
        predictor.stream(moving(4))


def test_a_model_of_images_is_refused(predictor):
    predictor.model = lambda records: [{"instances": None}]
    with pytest.raises(ConfigError, match="is a model of images, not of videos"):
        predictor(list(moving(2)))
    assert "MaskFormer" in META_ARCH_REGISTRY


def test_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigError, match="unknown model 'nothing'"):
        VideoPredictor("nothing")
    with pytest.raises(CheckpointError, match="model ctvis-r50-ovis: no weights at"):
        VideoPredictor("ctvis-r50-ovis")
    model = projects.find_model("masktrack-tiny-shapesvis")
    monkeypatch.setattr("projects.models.FOLDER", tmp_path)  # no shipped weights
    torch.save({"model": VideoTrainer.build_model(model.config()).state_dict()}, tmp_path / model.weights)
    assert len(VideoPredictor("masktrack-tiny-shapesvis").class_names) == 6


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "stream: no frames"),
        ([np.zeros((4, 5), np.uint8)], r"stream: frame 0: expected uint8 of shape \(H, W, 3\)"),
        ([np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)], "stream: frame 1: size 4x5 differs"),
    ],
)
def test_frames_that_cannot_be_used(frames, message):
    with pytest.raises(DataError, match=message):
        list(FrameStream(iter(frames)))


def test_an_opened_video_is_a_video(predictor):
    assert len(list(predictor.stream(open_video(list(moving(3)))))) == 3


def test_latency_leaves_out_the_consumer():
    """A window of two: frames arrive at 0 and 1, the results are there at 3; the consumer takes 10 for each."""
    now = [0.0]
    latency = Latency(clock=lambda: now[0])

    def frames():
        yield "a"
        now[0] += 1
        yield "b"

    def model(items):
        window = list(items)
        now[0] += 2
        yield from window

    for _ in latency.leaving(model(latency.arriving(frames()))):
        now[0] += 10
    assert latency.first == 3 and latency.last == 2 and latency.mean == 2.5 and latency.worst == 3
    assert latency.summary() == {"frames": 2, "first": 3000, "mean": 2500, "median": 3000, "p95": 3000, "worst": 3000}


def test_latency_does_not_grow():
    latency = Latency()
    for _ in latency.leaving(latency.arriving(range(2 * RECENT))):
        pass
    assert latency.count == 2 * RECENT and len(latency._recent) == RECENT and not latency._arrivals
    assert Latency().summary()["median"] == 0


def test_the_number_of_a_camera_is_refused_with_what_to_do(predictor):
    for use in (predictor, predictor.stream):
        with pytest.raises(DataError, match=r"video 0: .* cv2\.VideoCapture"):
            use(0)


def test_frames_as_opencv_gives_them(predictor):
    """Turned from BGR by a view, as the example of a camera does it."""
    frames = list(moving(3))
    for keep_size in (False, True):
        if keep_size:
            predictor.cfg.INPUT.MIN_SIZE_TEST = 0
        turned = predictor(frame[..., ::-1].copy()[..., ::-1] for frame in frames)
        assert turned == predictor(frames)


@pytest.mark.parametrize(("key", "value"), [("INPUT.MIN_SIZE_TEST", -5), ("INPUT.MAX_SIZE_TEST", 0)])
def test_sizes_that_no_image_has(predictor, key, value):
    predictor.cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError, match=f"{key}: {value}, but a size"):
        predictor(list(moving(1)))


def test_an_unknown_data_set_leaves_the_classes_without_names(small_run, tmp_path, caplog):
    weights = tmp_path / "model.pth"
    cfg = small_run(tmp_path, "MODEL.WEIGHTS", str(weights), "DATASETS.TEST", "my_val")
    torch.save({"model": VideoTrainer.build_model(cfg).state_dict()}, weights)
    assert VideoPredictor(cfg).class_names == []
    assert "DATASETS.TEST: no data set 'my_val' is registered" in caplog.text
