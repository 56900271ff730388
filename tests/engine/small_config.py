"""The config of a training run of seconds: a toy MaskTrack R-CNN on four small generated videos."""

from pathlib import Path

import projects
from vis_core.config import merge_config
from vis_core.data import register_shapes
from vis_core.data.shapes import ShapesConfig

from detectron2.data import DatasetCatalog  # isort: skip  (importable once vis_core is)

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "masktrack_rcnn" / "shapesvis_tiny.yaml"
DATASET = "engine_test_shapes"
SHAPES = ShapesConfig(num_videos=4, length=4, height=64, width=96, difficulty=0.0)

OPTIONS = {
    "MODEL.DEVICE": "cpu",
    # No batch statistics: a batch may be split over processes.
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.FPN.NORM": "GN",
    "MODEL.SMALL_RESNET.WIDTHS": "[64, 96, 128, 160]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.FPN.OUT_CHANNELS": "32",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": "0",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "32",
    "MODEL.TRACK_HEAD.FC_DIM": "32",
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": "64",
    # Adam would blow the rounding of a gradient near zero up to a whole step.
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": "0.01",
    "SOLVER.WARMUP_ITERS": "0",
    "SOLVER.CHECKPOINT_PERIOD": "3",
    "SOLVER.IMS_PER_BATCH": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "SEED": "7",
    "DATASETS.TRAIN": f"('{DATASET}',)",
    "DATASETS.TEST": f"('{DATASET}',)",
}


def small_config(data: Path, out: Path, *options: str):
    """Config with frames below ``data`` (made on first use) and results in ``out``; ``options`` are KEY, VALUE, ..."""
    if DATASET not in DatasetCatalog.list():
        register_shapes(DATASET, SHAPES, data)
    pairs = [part for pair in OPTIONS.items() for part in pair]
    return merge_config(projects.default_config(), CONFIG, [*pairs, "OUTPUT_DIR", str(out), *options])
