"""Starts a function in as many processes as a job needs."""

import logging
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Call ``main_func(*args)`` in every process of a job; once per machine.

    A job of one process runs in the calling one. Otherwise fresh interpreters are started (so ``main_func`` must be
    a module-level function and ``args`` picklable), with NCCL where there is CUDA and gloo where there is not.

    Args:
        main_func: what to run.
        num_gpus_per_machine: processes on this machine; one CUDA device each, where there is CUDA.
        num_machines: machines of the job.
        machine_rank: this machine's number, from 0.
        dist_url: where the processes meet, ``tcp://host:port``; ``"auto"``: a free port (one machine only).
        args: of ``main_func``.
        timeout: after which a collective call of the job fails.

    Returns:
        what ``main_func`` returns if it ran in this process, else ``None``.

    Raises:
        AssertionError: more processes than CUDA devices, ``"auto"`` with several machines, or several processes
            without ``dist_url``.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size == 1:
        return main_func(*args)
    if dist_url == "auto":
        if num_machines != 1:
            raise AssertionError("dist_url 'auto' works for one machine only; name tcp://host:port")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    if dist_url is None:
        raise AssertionError(f"{world_size} processes need a dist_url")
    if num_machines > 1 and dist_url.startswith("file://"):
        logging.getLogger(__name__).warning("file:// is no reliable dist_url for several machines; use tcp://")
    mp.spawn(
        _worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
    )
    return None


def _worker(
    local_rank: int,
    main_func: Callable,
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
    timeout: timedelta,
) -> None:
    """What a started process does."""
    use_cuda = torch.cuda.is_available()
    if use_cuda and num_gpus_per_machine > torch.cuda.device_count():
        raise AssertionError(f"{num_gpus_per_machine} processes, but {torch.cuda.device_count()} CUDA devices")
    dist.init_process_group(
        backend="nccl" if use_cuda else "gloo",
        init_method=dist_url,
        world_size=world_size,
        rank=machine_rank * num_gpus_per_machine + local_rank,
        timeout=timeout,
    )
    comm.create_local_process_group(num_gpus_per_machine)
    if use_cuda:
        torch.cuda.set_device(local_rank)
    # Nobody starts before all are there, so that no one runs into the timeout of another one's start.
    comm.synchronize()
    main_func(*args)
    dist.destroy_process_group()


def _free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
