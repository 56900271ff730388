import itertools
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import projects
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "seq_mask_rcnn"

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_small_resnet_fpn_backbone",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": "1",
    "MODEL.ROI_HEADS.NUM_CLASSES": "3",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0",
    "MODEL.PROP_HEAD.KEY_DIM": "8",
    "MODEL.PROP_HEAD.VALUE_DIM": "16",
    "MODEL.SEQ_MASK_RCNN.KEY_NUM": "3",
    "TEST.DETECTIONS_PER_IMAGE": "4",
}


@pytest.fixture(scope="session")
def seq_configs() -> Path:
    return CONFIGS


@pytest.fixture(scope="session")
def small_config():
    """A function: options -> config of a very small model."""

    def make(*opts: str):
        return merge_config(
            projects.default_config(),
            CONFIGS / "base_seq_mask_rcnn.yaml",
            [*itertools.chain(*SMALL.items()), *opts],
        )

    return make


@pytest.fixture(scope="session")
def small_model(small_config):
    """A function: options -> that model in eval mode, with a propagation head whose masks are neither all nor none."""

    def make(*opts: str):
        torch.manual_seed(0)
        model = build_model(small_config(*opts)).eval()
        with torch.no_grad():
            for conv in (m for m in model.prop_head.modules() if isinstance(m, torch.nn.Conv2d)):
                conv.weight.normal_(std=conv.weight[0].numel() ** -0.5)
            model.prop_head.enc_pos.weight *= 20
            model.prop_head.RF2.convFS.weight *= 0.2
            model.roi_heads.mask_head.predictor.weight *= 10
            model.roi_heads.mask_head.predictor.bias += 0.5
        return model

    return make


@pytest.fixture(scope="session")
def video():
    """A function: number of frames -> frames (3, 60, 90) of a bright square on noise."""

    def make(num_frames: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        still = torch.randint(0, 120, (3, 60, 90), generator=generator, dtype=torch.uint8)
        frames = []
        for t in range(num_frames):
            frame = still.clone()
            frame[:, 15:45, 10 + 4 * t : 40 + 4 * t] = 220
            frames.append(frame)
        return frames

    return make
