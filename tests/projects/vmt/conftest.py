import itertools
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import projects
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "vmt"

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_small_resnet_backbone",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.VMT.HIDDEN_DIM": "32",
    "MODEL.VMT.NHEADS": "4",
    "MODEL.VMT.DIM_FEEDFORWARD": "32",
    "MODEL.VMT.ENC_LAYERS": "1",
    "MODEL.VMT.DEC_LAYERS": "2",
    "MODEL.VMT.NUM_QUERIES": "12",
    "MODEL.VMT.REFINE_DIM": "16",
    "MODEL.VMT.REFINE_LAYERS": "1",
    "MODEL.VMT.REFINE_DIM_FEEDFORWARD": "32",
    "MODEL.VMT.TEST.NUM_INSTANCES": "6",
}


@pytest.fixture(scope="session")
def small_config():
    """A function: options -> config of a very small model, otherwise that of the released ones."""

    def make(*opts: str, file: str = "hq_ytvis_r50.yaml"):
        return merge_config(projects.default_config(), CONFIGS / file, [*itertools.chain(*SMALL.items()), *opts])

    return make


@pytest.fixture(scope="session")
def small_model(small_config):
    """A function: options -> very small model with random weights, in eval mode, the same for each call."""

    def make(*opts: str):
        torch.manual_seed(0)
        model = build_model(small_config(*opts)).eval()
        with torch.no_grad():  # so that some masks begin and end within the frame
            model.masks.controller_inc.layers[-1].bias[-1] = -5
        return model

    return make


@pytest.fixture(scope="session")
def moving_square():
    """A function: number of frames -> a video of 50 x 70 pixels, odd sizes at every stride."""

    def make(num_frames: int, height: int = 50, width: int = 70):
        generator = torch.Generator().manual_seed(1)
        background = torch.randint(0, 80, (3, height, width), generator=generator, dtype=torch.uint8)
        frames = []
        for t in range(num_frames):
            frame = background.clone()
            frame[:, 10:30, 5 + 2 * t : 25 + 2 * t] = torch.tensor([220, 120, 40], dtype=torch.uint8)[:, None, None]
            frames.append(frame)
        return {"image": frames, "height": height + 13, "width": width + 9}

    return make
