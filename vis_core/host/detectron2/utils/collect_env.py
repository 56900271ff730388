"""What a bug report needs to know about the machine."""

import importlib.metadata
import os
import platform
import sys

import numpy as np
import torch
from tabulate import tabulate

__all__ = ["collect_env_info"]

_PACKAGES = ("torchvision", "fvcore", "iopath", "pycocotools", "opencv-python-headless", "opencv-python", "Pillow")


def collect_env_info() -> str:
    """A table of versions and devices, followed by torch's build settings."""
    import detectron2

    rows = [
        ("sys.platform", sys.platform),
        ("Python", platform.python_version()),
        ("numpy", np.__version__),
        ("detectron2", f"{detectron2.__version__} @{os.path.dirname(detectron2.__file__)}"),
        ("Compiler", "none: pure Python subset"),
        ("PyTorch", f"{torch.__version__} @{os.path.dirname(torch.__file__)}"),
        ("PyTorch debug build", torch.version.debug),
        ("CUDA of PyTorch", torch.version.cuda or "none"),
        ("GPU available", torch.cuda.is_available()),
    ]
    rows += [(f"GPU {i}", _gpu(i)) for i in range(torch.cuda.device_count())]
    rows += [(name, version) for name in _PACKAGES if (version := _version(name))]
    module = os.environ.get("DETECTRON2_ENV_MODULE")
    rows += [("DETECTRON2_ENV_MODULE", module)] if module else []
    return tabulate(rows) + "\n" + torch.__config__.show()


def _gpu(index: int) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"{torch.cuda.get_device_name(index)} (compute capability {major}.{minor})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(collect_env_info())
