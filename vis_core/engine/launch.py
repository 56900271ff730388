"""Starts one process a device: spawned by us (``--num-gpus``), or already started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.engine import launch as spawn
from detectron2.utils import comm


def launch(main: Callable, args) -> object:
    """Call ``main(args)`` in every process of the job.

    Args:
        main: a module-level function (it is pickled by name when processes are spawned).
        args: of ``detectron2.engine.default_argument_parser``.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _run_under_torchrun(main, args)
    return spawn(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _run_under_torchrun(main: Callable, args) -> object:
    if int(os.environ["WORLD_SIZE"]) == 1:
        return main(args)
    use_cuda = torch.cuda.is_available()
    if use_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # As long as spawned processes wait: one of them may evaluate or make a data set while the others wait.
    dist.init_process_group("nccl" if use_cuda else "gloo", timeout=DEFAULT_TIMEOUT)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()
    try:
        return main(args)
    finally:
        dist.destroy_process_group()
