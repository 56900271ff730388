"""Random seeds, and what has to be set up once per process."""

import importlib
import importlib.util
import logging
import os
import random
import sys

import numpy as np
import torch

__all__ = ["TORCH_VERSION", "seed_all_rng", "setup_custom_environment", "setup_environment"]

TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
"""(major, minor)"""

_prepared = False


def seed_all_rng(seed: int | None = None) -> None:
    """Seed torch (CPU and CUDA), numpy and python's ``random``; with None, by process id, clock and entropy."""
    if seed is None:
        seed = (os.getpid() + int.from_bytes(os.urandom(4), "little")) % 2**31
        logging.getLogger(__name__).info(f"Using a generated random seed {seed}")
    np.random.seed(seed)
    torch.manual_seed(seed)
    random.seed(seed)
    torch.cuda.manual_seed_all(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)


def setup_environment() -> None:
    """Prepare libraries once: quiet OpenCV, then the module that DETECTRON2_ENV_MODULE names, if any."""
    global _prepared
    if _prepared:
        return
    _prepared = True
    _configure_opencv()
    custom_module = os.environ.get("DETECTRON2_ENV_MODULE")
    if custom_module:
        setup_custom_environment(custom_module)


def setup_custom_environment(custom_module: str) -> None:
    """Import ``custom_module`` (a module name, or a path that ends in .py) and call its ``setup_environment()``."""
    if custom_module.endswith(".py"):
        module = _import_file("detectron2.utils.env.custom_module", custom_module)
    else:
        module = importlib.import_module(custom_module)
    assert callable(getattr(module, "setup_environment", None)), (
        f"{custom_module} (DETECTRON2_ENV_MODULE) must define a function setup_environment"
    )
    module.setup_environment()


def _configure_opencv() -> None:
    if int(os.environ.get("DETECTRON2_DISABLE_CV2", "0")):
        sys.modules["cv2"] = None  # any later import raises ImportError
        return
    # OpenCL makes OpenCV allocate GPU memory in every data loader worker.
    os.environ["OPENCV_OPENCL_RUNTIME"] = "disabled"
    try:
        import cv2
    except ImportError:
        return
    if hasattr(cv2, "ocl"):
        cv2.ocl.setUseOpenCL(False)


def _import_file(module_name: str, file_path: str):
    spec = importlib.util.spec_from_file_location(module_name, file_path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
