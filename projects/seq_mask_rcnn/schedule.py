"""How many iterations a training stage is on a given data set.

python -m projects.seq_mask_rcnn.schedule finetune TRAIN.json [--batch-size 20]
python -m projects.seq_mask_rcnn.schedule main COCO.json [--batch-size 16] [--target ytvis_2019 | ytvis_2021 | davis]
"""

from __future__ import annotations

import argparse
import math

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.cli.failures import one_line_errors
from vis_core.data import load_coco_json, load_ytvis_json
from vis_core.data.builtin import BUILTIN_SPLITS
from vis_core.data.filtering import annotated_frames

FINETUNE_EPOCHS, FINETUNE_DECAY = 4, 2
MAIN_EPOCHS, MAIN_DECAY = 12, (8, 11)
TARGETS = {"ytvis_2019": "coco2ytvis2019_train", "ytvis_2021": "coco2ytvis2021_train", "davis": "coco2davis_train"}


def finetune_schedule(num_frames: int, batch_size: int = 20) -> dict:
    """SOLVER keys of 4 epochs, each with all ``num_frames`` as target once. The published learning rate does not depend
    on the batch."""
    epoch = math.ceil(num_frames / batch_size)
    return {
        "IMS_PER_BATCH": batch_size,
        "MAX_ITER": FINETUNE_EPOCHS * epoch,
        "STEPS": (FINETUNE_DECAY * epoch,),
        "CHECKPOINT_PERIOD": epoch,
    }


def main_schedule(num_images: int, batch_size: int = 16) -> dict:
    """SOLVER keys of 12 epochs of ``num_images``; the learning rate, 0.005 for batches of 16, scales with the batch."""
    epoch = math.ceil(num_images / batch_size)
    return {
        "IMS_PER_BATCH": batch_size,
        "BASE_LR": 0.005 * batch_size / 16,
        "MAX_ITER": MAIN_EPOCHS * epoch,
        "STEPS": tuple(e * epoch for e in MAIN_DECAY),
        "CHECKPOINT_PERIOD": epoch,
    }


def main() -> None:
    """Print the lines that belong under SOLVER."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("main", "finetune"))
    parser.add_argument("json_file", help="annotations of the training set: COCO's (main) or YouTube-VIS format")
    parser.add_argument("--batch-size", type=int, help="clips per iteration over all GPUs")
    parser.add_argument("--target", choices=TARGETS, default="ytvis_2019", help="whose classes COCO's images must have")
    args = parser.parse_args()
    if args.stage == "main":
        class_map = BUILTIN_SPLITS[TARGETS[args.target]].class_map
        count = len(load_coco_json(args.json_file, "", class_map=class_map))
        keys = main_schedule(count, args.batch_size or 16)
    else:
        count = sum(len(annotated_frames(record)) for record in load_ytvis_json(args.json_file, ""))
        keys = finetune_schedule(count, args.batch_size or 20)
    print(f"# {count} {'images' if args.stage == 'main' else 'annotated frames'}")
    for key, value in keys.items():
        print(f"  {key}: {value}")


if __name__ == "__main__":
    with one_line_errors():
        main()
