"""How many iterations the published 12 epochs are on a given data set.

python -m projects.masktrack_rcnn.schedule TRAIN.json [--batch-size 8]
"""

from __future__ import annotations

import argparse
import math

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.cli.failures import one_line_errors
from vis_core.data import load_ytvis_json
from vis_core.data.filtering import annotated_frames

EPOCHS, DECAY_EPOCHS = 12, (8, 11)


def schedule(num_frames: int, batch_size: int = 8) -> dict:
    """SOLVER keys of 12 epochs, each showing all ``num_frames`` key frames once, in batches of ``batch_size``.

    The learning rate is the published one, 0.00125 for batches of 8, scaled with the batch.
    """
    epoch = math.ceil(num_frames / batch_size)
    return {
        "IMS_PER_BATCH": batch_size,
        "BASE_LR": 0.00125 * batch_size / 8,
        "MAX_ITER": EPOCHS * epoch,
        "STEPS": tuple(e * epoch for e in DECAY_EPOCHS),
        "CHECKPOINT_PERIOD": epoch,
    }


def main() -> None:
    """Print the lines that belong under SOLVER."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json_file", help="annotations of the training set, YouTube-VIS format")
    parser.add_argument("--batch-size", type=int, default=8, help="clips per iteration over all GPUs")
    args = parser.parse_args()
    records = load_ytvis_json(args.json_file, "")
    num_frames = sum(len(annotated_frames(record)) for record in records)
    print(f"# {len(records)} videos, {num_frames} annotated frames")
    for key, value in schedule(num_frames, args.batch_size).items():
        print(f"  {key}: {value}")


if __name__ == "__main__":
    with one_line_errors():
        main()
