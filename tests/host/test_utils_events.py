import json
import logging

import pytest
import torch
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)


def test_storages_nest():
    assert not has_event_storage()
    with EventStorage() as outer:
        with EventStorage(4) as inner:
            assert get_event_storage() is inner and inner.iter == 4
        assert get_event_storage() is outer and has_event_storage()
    with pytest.raises(AssertionError):
        get_event_storage()


def test_scalars():
    with EventStorage(10) as s:
        s.put_scalars(a=1, b=torch.tensor(2.5))
        s.step()
        s.put_scalar("a", 3)
        with s.name_scope("outer"):
            s.put_scalar("a", 7)
            with s.name_scope("inner/"):
                s.put_scalar("a", 8)
        s.put_scalar("late", 1, cur_iter=3)
    assert s.latest() == {"a": (3, 11), "b": (2.5, 10), "outer/a": (7, 11), "inner/a": (8, 11), "late": (1, 3)}
    assert s.history("a").values() == [(1, 10), (3, 11)] and set(s.histories()) == set(s.latest())
    s.iter = 20
    assert s.iter == s.iteration == 20


def test_smoothing_looks_at_iterations_not_samples():
    with EventStorage() as s:
        for i in range(0, 40, 4):
            s.iter = i
            s.put_scalar("noisy", i)
            s.put_scalar("plain", i, smoothing_hint=False)
    assert s.count_samples("noisy", 10) == 3
    assert s.latest_with_smoothing_hint(10) == {"noisy": (32, 36), "plain": (36, 36)}
    assert s.smoothing_hints() == {"noisy": True, "plain": False}


def test_json_lines(tmp_path):
    with EventStorage() as s:
        writer = JSONWriter(str(tmp_path / "metrics.json"), window_size=1)
        writer.write()  # nothing yet
        s.put_scalar("b", 1)
        s.step()
        s.put_scalar("a", 2)
        writer.write()
        writer.write()  # nothing new
        writer.close()
        writer = JSONWriter(str(tmp_path / "metrics.json"))  # a resumed run appends
        s.step()
        s.put_scalar("a", 4, smoothing_hint=True)
        writer.write()
        writer.close()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert lines[:2] == ['{"b": 1.0, "iteration": 0}', '{"a": 2.0, "iteration": 1}']
    assert json.loads(lines[-1]) == {"a": 3.0, "iteration": 2}


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "events"
    with EventStorage() as s:
        writer = TensorboardXWriter(str(folder), window_size=1)
        writer.close()
        assert not folder.exists()  # nothing was written
        for i in range(3):
            s.put_scalar("loss", i * 2)
            if i == 1:
                s.put_image("picture", torch.zeros(3, 4, 5, dtype=torch.uint8))
                s.put_histogram("weights", torch.tensor([0.0, 1.0, 1.0, 2.0]), bins=2)
            writer.write()
            s.step()
        writer.close()
        assert s.vis_data() == []
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 0), (1, 2), (2, 4)]
    assert [e.step for e in events.Images("picture")] == [1]
    histogram = events.Histograms("weights")[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num, histogram.sum, histogram.sum_squares) == (0, 2, 4, 4, 6)


class TestCommonMetricPrinter:
    @pytest.fixture
    def lines(self):
        texts = []
        logger = logging.getLogger("detectron2.utils.events")
        handler = logging.Handler()
        handler.emit = lambda record: texts.append(record.getMessage())
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.INFO)
        yield texts
        logger.setLevel(level)
        logger.removeHandler(handler)

    def test_line(self, lines):
        with EventStorage(1) as s:
            s.put_scalars(loss_cls=1.23456, total_loss=100, other=3, time=2, data_time=0.25)
            s.put_scalar("[metric]acc", 0.5)
            s.put_scalar("lr", 0.00012345, smoothing_hint=False)
            CommonMetricPrinter(100).write()
            assert s.latest()["eta_seconds"] == (196, 1)
        line = lines[0].partition("  max_mem")[0].rstrip()
        assert line == (
            " eta: 0:03:16  iter: 1  loss_cls: 1.235  total_loss: 100  [metric]acc: 0.5  time: 2.0000  "
            "last_time: 2.0000  data_time: 0.2500  last_data_time: 0.2500   lr: 0.00012345"
        )

    def test_without_end_or_rate(self, lines):
        with EventStorage():
            CommonMetricPrinter().write()
        assert lines[0].startswith(" iter: 0") and "eta" not in lines[0] and "lr: N/A" in lines[0]

    def test_silent_after_training(self, lines):
        with EventStorage(5):
            CommonMetricPrinter(5).write()
        assert lines == []
