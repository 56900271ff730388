import pytest
import torch

from projects.seq_mask_rcnn.near import Window, windows_around
from projects.seq_mask_rcnn.window import FRAMES_PER_READ, FeatureWindow


class Features:
    """Stands in for a frame's features of 10 bytes."""

    def __init__(self, image, made):
        self.image = image
        made.append(image)

    def num_bytes(self):
        return 10


class Video(list):
    """Counts how often a frame is read by its number."""

    def __init__(self, frames):
        super().__init__(frames)
        self.reads = []

    def __getitem__(self, index):
        self.reads.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("budget", [0, 25, 1000])
@pytest.mark.parametrize("start", [-1, 7, 39])
def test_there_and_back(budget, start):
    made, held = [], []
    video = Video(range(100, 140))
    window = FeatureWindow(video, lambda image: Features(image, made), budget)
    for t, features in window.forward():
        assert features.image == 100 + t
        held.append(window._held)
    back = [(t, features.image) for t, features in window.backward(start)]
    assert back == [(t, 100 + t) for t in range(start, -1, -1)]
    assert max(held) <= budget
    kept = [t for t in range(start + 1) if t >= 40 - budget // 10]
    assert len(made) == 40 + start + 1 - len(kept)
    assert len(video.reads) == len(set(video.reads))  # each once
    runs = [video.reads[i : i + FRAMES_PER_READ] for i in range(0, len(video.reads), FRAMES_PER_READ)]
    assert all(run == list(range(run[0], run[0] + len(run))) for run in runs)  # forwards


def test_windows():
    boxes = torch.tensor([[20.0, 30, 40, 50], [0, 0, 5, 5], [100, 100, 128, 128]])
    present = torch.tensor([True, False, True])
    windows = windows_around(boxes, present, margin=10, grid=(8, 8))
    assert windows == [Window(1, 4, 0, 4), Window(0, 8, 0, 8), Window(5, 8, 5, 8)]
    x = torch.arange(64).view(1, 8, 8)
    assert windows[0].cut(x).shape == (1, 3, 4) and windows[0].cut(x)[0, 0, 0] == 8
