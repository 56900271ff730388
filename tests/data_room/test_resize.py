import numpy as np
import pytest

from vis_core.data.resize import BACKENDS, floor_size, resize_transform


@pytest.mark.parametrize(
    ("size", "short", "long", "wanted"),
    [
        ((480, 854), 360, 10000, (360, 640)),  # 640.5: Detectron2 rounds up
        ((854, 480), 360, 10000, (640, 360)),
        ((150, 200), 96, 10000, (96, 128)),
        ((500, 500), 360, 10000, (360, 360)),
        ((100, 1000), 360, 768, (77, 770)),  # the bound decides about the short side, which is rounded
    ],
)
def test_detrs_size_rule(size, short, long, wanted):
    assert floor_size(*size, short, long) == wanted
    transform = resize_transform(*size, short, long, "pillow_floor")
    assert (transform.new_h, transform.new_w) == wanted


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(2000, 3), (3, 2000), (4000, 1)])
def test_a_very_elongated_frame_keeps_a_pixel(backend, size):
    transform = resize_transform(*size, 32, 64, backend)
    assert transform.apply_image(np.zeros((*size, 3), np.uint8)).size > 0


def test_the_rules_differ():
    transform = resize_transform(480, 854, 360, 10000, "pillow")
    assert (transform.new_h, transform.new_w) == (360, 641)
