import itertools
from pathlib import Path

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

import projects
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "masktrack_rcnn"

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.TRACK_HEAD.FC_DIM": "16",
    "MODEL.ROI_HEADS.NUM_CLASSES": "3",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0",
}


@pytest.fixture(scope="session")
def masktrack_configs() -> Path:
    return CONFIGS


@pytest.fixture(scope="session")
def tiny_config():
    """A function: options -> config of a model that is tiny even beside shapesvis_tiny.yaml."""

    def make(*opts: str):
        return merge_config(
            projects.default_config(), CONFIGS / "shapesvis_tiny.yaml", [*itertools.chain(*SMALL.items()), *opts]
        )

    return make


@pytest.fixture(scope="session")
def make_clip():
    """A function: (seed, visible ids of key frame, of reference frame) -> clip of two 64 x 96 frames with squares.

    Object k is a bright square at a place of its own, moved a little in the reference frame.
    """

    def frame(generator, num_objects, ids, shift):
        image = torch.randint(0, 60, (3, 64, 96), generator=generator, dtype=torch.uint8)
        masks = torch.zeros(num_objects, 64, 96, dtype=torch.bool)
        for k in range(num_objects):
            if k in ids:
                y, x = 4 + 14 * k, 6 + 20 * k + shift
                masks[k, y : y + 20, x : x + 20] = True
                image[:, y : y + 20, x : x + 20] = torch.tensor([200, 80 * (k % 3), 250 - 60 * k]).byte()[:, None, None]
        instances = Instances((64, 96))
        instances.gt_masks = BitMasks(masks)
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        instances.gt_classes = torch.arange(num_objects) % 3
        instances.gt_ids = torch.tensor([100 + k if k in ids else -1 for k in range(num_objects)], dtype=torch.int64)
        return image, instances

    def make(seed: int = 0, key=(0, 1, 2), ref=(0, 1, 2)):
        generator = torch.Generator().manual_seed(seed)
        num_objects = max([*key, *ref], default=-1) + 1
        frames = [frame(generator, num_objects, ids, shift) for ids, shift in ((key, 0), (ref, 5))]
        assert all(isinstance(x.gt_boxes, Boxes) for _, x in frames)
        return {"image": [x for x, _ in frames], "instances": [x for _, x in frames], "height": 64, "width": 96}

    return make
