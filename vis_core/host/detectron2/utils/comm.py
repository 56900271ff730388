"""Communication between processes; every function also works where ``torch.distributed`` is not initialised."""

import functools

import numpy as np
import torch
import torch.distributed as dist

_LOCAL_PROCESS_GROUP = None  # the processes on this machine; set by create_local_process_group


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes over all machines."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """Index of this process over all machines."""
    return dist.get_rank() if _initialized() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make the group of the processes on each machine. Every process must call it, once, after initialisation.

    Machines must run the same number of processes, with consecutive ranks on each.
    """
    global _LOCAL_PROCESS_GROUP
    assert _LOCAL_PROCESS_GROUP is None, "the local process group exists already"
    assert get_world_size() % num_workers_per_machine == 0
    machine = get_rank() // num_workers_per_machine
    for i in range(get_world_size() // num_workers_per_machine):
        ranks = list(range(i * num_workers_per_machine, (i + 1) * num_workers_per_machine))
        group = dist.new_group(ranks)  # collective: every process makes every group
        if i == machine:
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group():
    """The group of the processes on this machine."""
    assert _LOCAL_PROCESS_GROUP is not None, "no local process group: use launch(), or create_local_process_group()"
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Index of this process on its machine."""
    return dist.get_rank(group=get_local_process_group()) if _initialized() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _initialized() else 1


def is_main_process() -> bool:
    return get_rank() == 0


def synchronize() -> None:
    """Wait until all processes are here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        # Naming the device keeps NCCL from guessing it.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _object_group():
    """The group that objects travel over: a CPU backend's."""
    return _gloo_group() if dist.get_backend() == "nccl" else dist.group.WORLD


@functools.lru_cache
def _gloo_group():
    return dist.new_group(backend="gloo")


def all_gather(data, group=None) -> list:
    """Every process's picklable ``data``, in order of rank."""
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    world_size = dist.get_world_size(group)
    if world_size == 1:
        return [data]
    output = [None] * world_size
    dist.all_gather_object(output, data, group=group)
    return output


def gather(data, dst: int = 0, group=None) -> list:
    """Every process's picklable ``data``, in order of rank, on rank ``dst``; an empty list elsewhere."""
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    world_size = dist.get_world_size(group)
    if world_size == 1:
        return [data]
    if dist.get_rank(group) != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    output = [None] * world_size
    dist.gather_object(data, output, dst=dst, group=group)
    return output


def shared_random_seed() -> int:
    """A random number that all processes agree on: rank 0's draw from numpy's global generator.

    Every process draws once, so generators that were in step stay in step.
    """
    return all_gather(np.random.randint(2**31))[0]


def reduce_dict(input_dict: dict, average: bool = True) -> dict:
    """Sum, or mean, over processes of a dict of scalar tensors; the result is valid on rank 0 only."""
    world_size = get_world_size()
    if world_size == 1:
        return input_dict
    with torch.no_grad():
        names = sorted(input_dict)  # the same order in every process
        values = torch.stack([input_dict[k] for k in names])
        dist.reduce(values, dst=0)
        if average and get_rank() == 0:
            values /= world_size
        return dict(zip(names, values))
