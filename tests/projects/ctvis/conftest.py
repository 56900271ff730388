import itertools
from pathlib import Path

import pytest
import torch
from detectron2.structures import BitMasks, Instances

import projects
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "ctvis"

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "3",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": "1",
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": "8",
    "MODEL.MASK_FORMER.HIDDEN_DIM": "32",
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": "32",
    "MODEL.MASK_FORMER.DEC_LAYERS": "3",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": "64",
    "MODEL.CTVIS.REID_DIM": "16",
}


@pytest.fixture(scope="session")
def tiny_config():
    """A function: options -> config of a model that is tiny even beside shapesvis_tiny.yaml."""

    def make(*opts: str, file: str = "shapesvis_tiny.yaml"):
        return merge_config(projects.default_config(), CONFIGS / file, [*itertools.chain(*SMALL.items()), *opts])

    return make


@pytest.fixture(scope="session")
def make_clip():
    """A function: per frame the visible objects -> clip of 60 x 90 frames with moving squares.

    Object k is a bright square at a place of its own; a clip has rows for all objects that it is told of.
    """

    def make(frames, num_objects: int = 3, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        background = torch.randint(0, 60, (3, 60, 90), generator=generator, dtype=torch.uint8)
        clip = {"image": [], "instances": [], "height": 60, "width": 90}
        for t, ids in enumerate(frames):
            image, masks = background.clone(), torch.zeros(num_objects, 60, 90, dtype=torch.bool)
            for k in ids:
                y, x = 4 + 14 * k, 6 + 20 * k + 3 * t
                masks[k, y : y + 20, x : x + 20] = True
                colour = torch.tensor([200, 80 * (k % 3), 250 - 60 * k]).byte()
                image[:, y : y + 20, x : x + 20] = colour[:, None, None]
            instances = Instances((60, 90))
            instances.gt_masks = BitMasks(masks)
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
            instances.gt_classes = torch.tensor([k % 3 if k in ids else 3 for k in range(num_objects)]).long()
            instances.gt_ids = torch.tensor([100 + k if k in ids else -1 for k in range(num_objects)]).long()
            clip["image"].append(image)
            clip["instances"].append(instances)
        return clip

    return make
