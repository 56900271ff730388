#!/usr/bin/env python
"""Train or evaluate any method of this toolkit.

python train_net.py --config-file configs/masktrack_rcnn/shapesvis_tiny.yaml
python train_net.py --config-file ... --num-gpus 8 [--resume] [KEY VALUE ...]
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
torchrun --nproc-per-node 8 train_net.py --config-file ...
"""

import vis_core  # noqa: F401  (makes detectron2 importable)

from detectron2.engine import default_argument_parser, default_setup  # isort: skip

import projects
from vis_core.checkpoint import VideoCheckpointer
from vis_core.cli.failures import one_line_errors
from vis_core.config import check_device, merge_config
from vis_core.engine import VideoTrainer, launch


def setup(args):
    """The run's frozen config, from the command line."""
    cfg = merge_config(projects.default_config(), args.config_file, args.opts)
    check_device(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args):
    """What every process of the job runs; returns the results of the last evaluation."""
    cfg = setup(args)
    if args.eval_only:
        model = VideoTrainer.build_model(cfg)
        checkpointer = VideoCheckpointer(model, cfg.OUTPUT_DIR, require_all=True)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return VideoTrainer.test(cfg, model)
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    with one_line_errors():
        launch(main, default_argument_parser(__doc__).parse_args())
