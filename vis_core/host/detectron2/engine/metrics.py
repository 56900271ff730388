"""Records the losses of a step, averaged over all processes."""

from collections.abc import Mapping

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


def write_metrics(
    loss_dict: Mapping[str, torch.Tensor],
    data_time: float,
    storage: EventStorage,
    iteration: int,
    prefix: str = "",
) -> None:
    """Put a step's metrics into the storage; a collective call: all processes must take part.

    Args:
        loss_dict: named scalar tensors.
        data_time: seconds that this process waited for its batch.
        storage: gets ``rank_data_time`` on every process, and on the main process ``data_time`` (the slowest
            process's), the mean of each loss over processes, and their sum as ``<prefix>total_loss``.
        iteration: to which the metrics belong.
        prefix: put before ``total_loss``.

    Raises:
        FloatingPointError: the sum is NaN or infinite (on the main process).
    """
    metrics = {name: value.detach().cpu().item() for name, value in loss_dict.items()}
    metrics["data_time"] = data_time
    storage.put_scalar("rank_data_time", data_time, cur_iter=iteration)

    all_metrics = comm.gather(metrics)
    if not comm.is_main_process():
        return
    slowest = max(each.pop("data_time") for each in all_metrics)
    storage.put_scalar("data_time", slowest, cur_iter=iteration)

    means = {name: float(np.mean([each[name] for each in all_metrics])) for name in all_metrics[0]}
    total_name = f"{prefix}total_loss"
    total = sum(means.values())
    if not np.isfinite(total):
        raise FloatingPointError(f"Loss is not finite at iteration {iteration}: {means}")
    means[total_name] = total
    for name, value in means.items():
        storage.put_scalar(name, value, cur_iter=iteration)
