"""Results for other tools' eyes."""

import sys
import types

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer

from vis_core.errors import ConfigError
from vis_core.tube import Tube, encode_masks
from vis_core.visualization.conversion import frame_instances, to_supervision

SIZE = (40, 60)


@pytest.fixture
def tubes():
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 5:15, 10:30] = True
    masks[1, 20:38, 2:20] = True
    first, second = encode_masks(masks)
    return [Tube(1, 0.9, [first, None], track_id=7), Tube(0, 0.5, [second, second], track_id=None)]


def test_a_frame_of_tubes(tubes):
    found = frame_instances(tubes, 0, SIZE)
    assert found.pred_ids.tolist() == [7, 1] and found.pred_classes.tolist() == [1, 0]
    assert found.pred_boxes.tensor.tolist() == [[10, 5, 30, 15], [2, 20, 20, 38]]
    assert found.pred_masks.sum(dim=(1, 2)).tolist() == [200, 324] and found.pred_masks.dtype == torch.bool
    assert frame_instances(tubes, 1, SIZE).pred_ids.tolist() == [1]
    assert len(frame_instances([], 0, SIZE)) == 0


def test_detectron2s_visualizer_draws_it(tubes):
    frame = np.full((*SIZE, 3), 120, np.uint8)
    drawer = Visualizer(frame, Metadata(name="two", thing_classes=["cat", "dog"]))
    drawn = drawer.draw_instance_predictions(frame_instances(tubes, 0, SIZE)).get_image()
    assert drawn.shape == frame.shape
    assert (drawn[8:12, 12:28] != frame[8:12, 12:28]).any(axis=2).mean() > 0.9


class Detections(types.SimpleNamespace):
    """Takes what supervision's class of that name takes, and nothing else."""

    def __init__(self, xyxy, mask=None, confidence=None, class_id=None, tracker_id=None, data=None):
        super().__init__(
            xyxy=xyxy, mask=mask, confidence=confidence, class_id=class_id, tracker_id=tracker_id, data=data
        )


def check(detections, num):
    assert detections.xyxy.shape == (num, 4) and detections.mask.shape == (num, *SIZE)
    assert detections.mask.dtype == bool and detections.confidence.dtype == np.float32
    assert detections.tracker_id.tolist() == [7, 1][:num] and detections.class_id.tolist() == [1, 0][:num]


def test_a_stand_in_for_supervision(tubes, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(Detections=Detections))
    detections = to_supervision(frame_instances(tubes, 0, SIZE), ["cat", "dog"])
    check(detections, 2)
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    check(to_supervision(frame_instances([], 0, SIZE)), 0)


def test_supervision_itself(tubes):
    pytest.importorskip("supervision")
    check(to_supervision(frame_instances(tubes, 0, SIZE), ["cat", "dog"]), 2)
    check(to_supervision(frame_instances([], 0, SIZE), ["cat", "dog"]), 0)


def test_without_supervision_one_line_says_so(tubes, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match="supervision is not installed: pip install supervision"):
        to_supervision(frame_instances(tubes, 0, SIZE))
