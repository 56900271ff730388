"""What a training script does before it builds anything: arguments, loggers, seeds; and its standard writers."""

import argparse
import os
import sys
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

_FIRST_PORT, _NUM_PORTS = 2**15 + 2**14, 2**14  # the range that no service claims


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The arguments of a training script; what follows them goes into ``opts`` as config keys and values."""
    parser = argparse.ArgumentParser(
        epilog=epilog or _example(sys.argv[0]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # One port a user: two users of a machine do not meet, while the machines of a job agree.
    port = _FIRST_PORT + hash(os.getuid() if hasattr(os, "getuid") else 1) % _NUM_PORTS
    parser.add_argument("--config-file", default="", metavar="FILE", help="yaml file of the config")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine, one device each")
    parser.add_argument("--num-machines", type=int, default=1, help="machines of the job")
    parser.add_argument("--machine-rank", type=int, default=0, help="this machine's number, from 0")
    parser.add_argument(
        "--dist-url", default=f"tcp://127.0.0.1:{port}", help="where the processes meet; 'auto': a free port"
    )
    parser.add_argument(
        "opts", default=None, nargs=argparse.REMAINDER, help="config keys and values in turn: SOLVER.MAX_ITER 100 ..."
    )
    return parser


def _example(script: str) -> str:
    return (
        "examples:\n"
        f"  {script} --config-file cfg.yaml --num-gpus 8\n"
        f"  {script} --config-file cfg.yaml MODEL.WEIGHTS weights.pth SOLVER.BASE_LR 0.001\n"
        f"  {script} --config-file cfg.yaml --num-machines 2 --machine-rank <0|1> --dist-url tcp://<host>:<port>\n"
    )


def default_setup(cfg, args: argparse.Namespace) -> None:
    """Set up loggers, random generators and numeric options from a config.

    Creates ``cfg.OUTPUT_DIR`` with ``log.txt`` and ``config.yaml``; logs the environment, the arguments and the
    config; seeds all generators with ``SEED + rank``, or at random if SEED is negative.

    Args:
        cfg: the full config.
        args: its ``config_file`` is logged; with ``eval_only`` cuDNN's benchmark mode is left alone.
    """
    output_dir, rank = cfg.OUTPUT_DIR, comm.get_rank()
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)

    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    if getattr(args, "config_file", ""):
        with PathManager.open(args.config_file, "r") as file:
            logger.info("Contents of args.config_file=%s:\n%s", args.config_file, file.read())
    if comm.is_main_process() and output_dir:
        logger.info("Running with full config:\n%s", cfg.dump())
        path = os.path.join(output_dir, "config.yaml")
        with PathManager.open(path, "w") as file:
            file.write(cfg.dump())
        logger.info("Full config saved to %s", path)

    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the log, to ``<output_dir>/metrics.json`` and to TensorBoard files in ``output_dir``."""
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> nn.Module:
    """A DistributedDataParallel wrapper in a job of several processes, the model itself otherwise.

    A CUDA model is wrapped for this process's device, a CPU model without devices.

    Args:
        model: on its device already.
        fp16_compression: exchange gradients in float16.
        kwargs: of DistributedDataParallel; ``device_ids`` among them takes precedence.
    """
    if comm.get_world_size() == 1:
        return model
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    if "device_ids" not in kwargs and not on_cpu:
        kwargs["device_ids"] = [comm.get_local_rank()]
    ddp = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        ddp.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return ddp
