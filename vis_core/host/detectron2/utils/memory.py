"""Working around a full GPU."""

import contextlib
import functools
import logging

import torch

__all__ = ["retry_if_cuda_oom"]


@contextlib.contextmanager
def _ignore_cuda_oom():
    try:
        yield
    except RuntimeError as e:
        if "CUDA out of memory. " not in str(e):
            raise


def retry_if_cuda_oom(func):
    """Make ``func`` try again when the GPU's memory runs out.

    The second try follows ``torch.cuda.empty_cache()``; the third has all CUDA tensors among the arguments moved to the
    CPU, so its result may lie on the CPU. Arguments inside containers are not moved, and ``func`` must not
    have side effects, since it may run three times.
    """

    def to_cpu(x):
        is_cuda_tensor = getattr(getattr(x, "device", None), "type", None) == "cuda"
        return x.to(device="cpu") if is_cuda_tensor and hasattr(x, "to") else x

    @functools.wraps(func)
    def wrapped(*args, **kwargs):
        with _ignore_cuda_oom():
            return func(*args, **kwargs)
        torch.cuda.empty_cache()
        with _ignore_cuda_oom():
            return func(*args, **kwargs)
        logging.getLogger(__name__).info(f"CUDA out of memory: trying {func} on the CPU")
        return func(*(to_cpu(x) for x in args), **{k: to_cpu(v) for k, v in kwargs.items()})

    return wrapped
