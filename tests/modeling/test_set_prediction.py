import torch

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.modeling import set_prediction


def test_mean_number_of_objects(monkeypatch):
    assert set_prediction.mean_num_objects(0, torch.device("cpu")).item() == 1
    assert set_prediction.mean_num_objects(7, torch.device("cpu")).item() == 7
    monkeypatch.setattr(set_prediction, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(4))  # the other process has 4
    assert set_prediction.mean_num_objects(7, torch.device("cpu")).item() == 5.5
