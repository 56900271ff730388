import random

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.projects.deeplab import add_deeplab_config, build_lr_scheduler
from detectron2.projects.point_rend import ColorAugSSDTransform
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness, point_sample


# -------------------------------------------------------------------------------------------------------- PointRend
def test_point_sample_reads_pixel_centres_and_blends_between_them():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    centres = torch.tensor([[[(x + 0.5) / 4, (y + 0.5) / 3] for y in range(3) for x in range(4)]])
    torch.testing.assert_close(point_sample(maps, centres, align_corners=False), maps.flatten(2))
    between = torch.tensor([[[2 / 4, 0.5 / 3]]])  # on the edge of columns 1 and 2
    torch.testing.assert_close(point_sample(maps, between, align_corners=False), torch.tensor([[[1.5], [13.5]]]))
    grid = centres.view(1, 3, 4, 2)
    torch.testing.assert_close(point_sample(maps, grid, align_corners=False), maps)


def test_points_gather_where_the_prediction_is_uncertain():
    logits = torch.full((2, 1, 32, 32), 9.0)
    logits[:, :, :, 12:20] = 0.0
    torch.manual_seed(0)
    points = get_uncertain_point_coords_with_randomness(logits, lambda x: -x.abs(), 100, 3, 0.75)
    assert points.shape == (2, 100, 2) and (points >= 0).all() and (points < 1).all()
    sampled = point_sample(logits, points, align_corners=False)[:, 0]
    # A quarter of 300 candidates lies in the stripe: enough for nearly all of the 75 chosen.
    assert (sampled[:, :75] < 8.0).float().mean() > 0.95 and (sampled[:, 75:] == 9.0).float().mean() > 0.5


def test_points_are_drawn_candidates_first():
    logits = torch.randn(1, 1, 8, 8)
    torch.manual_seed(4)
    points = get_uncertain_point_coords_with_randomness(logits, lambda x: -x.abs(), 10, 3, 0.5)
    torch.manual_seed(4)
    candidates, rest = torch.rand(1, 30, 2), torch.rand(1, 5, 2)
    best = point_sample(logits, candidates, align_corners=False)[:, 0].abs().topk(5, largest=False).indices[0]
    assert torch.equal(points, torch.cat([candidates[:, best], rest], dim=1))
    everything = get_uncertain_point_coords_with_randomness(logits, lambda x: -x.abs(), 10, 3, 1.0)
    assert everything.shape == (1, 10, 2)
    for oversample, importance in ((0.5, 0.5), (3, 1.5)):
        with pytest.raises(AssertionError):
            get_uncertain_point_coords_with_randomness(logits, torch.abs, 10, oversample, importance)


class Scripted:
    """Stands in for ``random``: gates from a list, the middle of every range."""

    def __init__(self, monkeypatch, gates):
        self.gates = list(gates)
        monkeypatch.setattr(random, "randrange", lambda n: self.gates.pop(0))
        monkeypatch.setattr(random, "uniform", lambda low, high: low + 0.75 * (high - low))
        monkeypatch.setattr(random, "randint", lambda low, high: high)


IMAGE = np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8)


def scaled(x, scale=1.0, shift=0.0):
    return np.clip(x.astype(np.float32) * scale + shift, 0, 255).astype(np.uint8)


def hsv_change(bgr, saturation=1.0, hue=0):
    hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
    hsv[..., 1] = scaled(hsv[..., 1], saturation)
    hsv[..., 0] = (hsv[..., 0].astype(int) + hue) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        # brightness, order, then contrast, saturation, hue
        ([0, 1, 0, 0, 0], lambda x: x),
        ([1, 1, 0, 0, 0], lambda x: scaled(x, shift=16.0)),
        ([0, 1, 1, 0, 0], lambda x: scaled(x, scale=1.25)),
        ([0, 1, 0, 1, 0], lambda x: hsv_change(x, saturation=1.25)),
        ([0, 1, 0, 0, 1], lambda x: hsv_change(x, hue=18)),
        ([1, 1, 1, 1, 1], lambda x: hsv_change(hsv_change(scaled(scaled(x, 1, 16.0), 1.25), 1.25), hue=18)),
        # brightness, order, then saturation, hue, contrast
        ([0, 0, 0, 0, 1], lambda x: scaled(x, scale=1.25)),
        ([1, 0, 1, 1, 1], lambda x: scaled(hsv_change(hsv_change(scaled(x, 1, 16.0), 1.25), hue=18), 1.25)),
    ],
)
@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_colour_steps_and_their_order(monkeypatch, gates, expected, channels):
    flip = slice(None, None, -1 if channels == "RGB" else 1)
    script = Scripted(monkeypatch, gates)
    before = IMAGE.copy()
    result = ColorAugSSDTransform(channels).apply_image(before)
    assert result.dtype == np.uint8 and not script.gates and np.array_equal(before, IMAGE)
    np.testing.assert_array_equal(result, expected(np.ascontiguousarray(IMAGE[..., flip]))[..., flip])


def test_colour_leaves_geometry_alone():
    transform = ColorAugSSDTransform("RGB")
    coords, segmentation = np.ones((3, 2)), np.eye(4, dtype=np.uint8)
    assert transform.apply_coords(coords) is coords and transform.apply_segmentation(segmentation) is segmentation
    with pytest.raises(AssertionError):
        ColorAugSSDTransform("L")


# ---------------------------------------------------------------------------------------------------------- DeepLab
def learning_rates(**solver):
    cfg = get_cfg()
    add_deeplab_config(cfg)
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("ending", [0.0, 0.3, 0.95])
def test_poly_rate_decays_after_its_warmup(method, ending):
    rates = learning_rates(
        LR_SCHEDULER_NAME="WarmupPolyLR",
        MAX_ITER=20,
        WARMUP_ITERS=4,
        WARMUP_FACTOR=0.1,
        WARMUP_METHOD=method,
        POLY_LR_POWER=0.5,
        POLY_LR_CONSTANT_ENDING=ending,
    )
    for iteration, rate in enumerate(rates):
        decay = (1 - iteration / 20) ** 0.5
        if iteration < 4:
            decay *= 0.1 if method == "constant" else 0.1 + 0.9 * iteration / 4
        else:
            decay = max(decay, ending)
        assert rate == pytest.approx(2.0 * decay)


def test_other_schedules_are_the_core_ones():
    rates = learning_rates(MAX_ITER=6, STEPS=(3,), WARMUP_ITERS=0)
    assert rates == pytest.approx([2.0] * 3 + [0.2] * 3)
    with pytest.raises(ValueError):
        learning_rates(LR_SCHEDULER_NAME="WarmupPolyLR", WARMUP_METHOD="sudden")
