"""A few training iterations in CPU processes of their own: run_small.py [--num-gpus N] [--resume] OUT ITERATIONS.

Spawned processes must be able to import what they run, so this is a script and not part of a test.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from small_config import small_config

from vis_core.engine import VideoTrainer, launch  # isort: skip
from detectron2.engine import default_argument_parser, default_setup  # isort: skip


def main(args):
    torch.set_num_threads(1)
    out, iterations = Path(args.opts[0]), args.opts[1]
    cfg = small_config(out.parent / "data", out, "SOLVER.MAX_ITER", iterations, "DATASETS.TEST", "()")
    default_setup(cfg, args)
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
