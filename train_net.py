#!/usr/bin/env python
"""Train or evaluate any method of this toolkit (``vis train`` is the same).

python train_net.py --config-file configs/masktrack_rcnn/shapesvis_tiny.yaml
python train_net.py --config-file ... --num-gpus 8 [--resume] [KEY VALUE ...]
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/.../model_final.pth
torchrun --nproc-per-node 8 train_net.py --config-file ...
"""

import vis_core.cli.quiet  # noqa: F401  (before fvcore is imported; vis_core makes detectron2 importable)

from detectron2.engine import default_argument_parser  # isort: skip

from vis_core.cli.failures import one_line_errors
from vis_core.cli.train import run
from vis_core.engine import launch

if __name__ == "__main__":
    with one_line_errors():
        launch(run, default_argument_parser(__doc__).parse_args())
