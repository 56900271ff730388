"""``vis train`` and ``train_net.py``: train or evaluate a method from a config."""

from __future__ import annotations

import argparse
from typing import Annotated

import typer
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from vis_core.atomic import make_folder
from vis_core.checkpoint import VideoCheckpointer
from vis_core.config import check_device, merge_config
from vis_core.engine import VideoTrainer, launch
from vis_core.errors import CheckpointError, ConfigError


def setup(args: argparse.Namespace):
    """The run's frozen config, from the command line; sets up the output folder, the log and the random generators.

    Raises ConfigError for a config that cannot be, DataError for an output folder that cannot be written to.
    """
    import projects

    cfg = merge_config(projects.default_config(), args.config_file, args.opts)
    check_device(cfg)
    make_folder(cfg.OUTPUT_DIR)
    cfg.freeze()
    for name in ("vis_core", "projects"):  # default_setup does the same for detectron2 and fvcore only
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
    default_setup(cfg, args)
    return cfg


def run(args: argparse.Namespace):
    """What every process of the job runs; returns the results of the last evaluation."""
    cfg = setup(args)
    if args.eval_only:
        model = VideoTrainer.build_model(cfg)
        checkpointer = VideoCheckpointer(model, cfg.OUTPUT_DIR, require_all=True)
        if not cfg.MODEL.WEIGHTS and not (args.resume and checkpointer.has_checkpoint()):
            raise CheckpointError("--eval-only has no weights to evaluate: set MODEL.WEIGHTS FILE")
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return VideoTrainer.test(cfg, model)
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def train(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", help="A model by name, instead of its config file.")] = "",
    config_file: Annotated[str, typer.Option("--config-file", help="The run's config.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; the same as MODEL.DEVICE.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUTPUT_DIR.")] = False,
    eval_only: Annotated[bool, typer.Option("--eval-only", help="Evaluate MODEL.WEIGHTS, do not train.")] = False,
    num_gpus: Annotated[int, typer.Option(help="Processes on this machine, one device each.")] = 1,
    num_machines: Annotated[int, typer.Option(help="Machines of the job.")] = 1,
    machine_rank: Annotated[int, typer.Option(help="This machine's number, from 0.")] = 0,
    dist_url: Annotated[str, typer.Option(help="Where the processes meet; by default a port of this machine.")] = "",
) -> None:
    """Train a method from a config, or evaluate it; the same as train_net.py. Config keys come last: KEY VALUE ...

    Example: vis train --config-file configs/masktrack_rcnn/shapesvis_tiny.yaml SOLVER.MAX_ITER 200

    Example: vis train --model ctvis-r50-ytvis19 --eval-only
    """
    unknown = next((key for key in context.args[::2] if key.startswith("-")), None)
    if unknown:
        raise ConfigError(f"vis train has no option {unknown} (see vis train --help)")
    if bool(model) == bool(config_file):
        raise ConfigError("vis train needs one of --config-file FILE and --model NAME (vis model list)")
    opts = ["MODEL.DEVICE", device] if device else []
    if model:
        import projects

        entry = projects.find_model(model)
        config_file = str(entry.config_file)
        if eval_only and not resume:
            opts += ["MODEL.WEIGHTS", str(entry.find_weights() or "")]
            if "MODEL.WEIGHTS" not in context.args:
                entry.weights_file()  # says where they are to be had
    args = default_argument_parser().parse_args([])
    given = {"resume": resume, "eval_only": eval_only, "num_gpus": num_gpus, "num_machines": num_machines}
    vars(args).update(given, config_file=config_file, machine_rank=machine_rank, opts=[*opts, *context.args])
    if dist_url:
        args.dist_url = dist_url
    launch(run, args)
