"""``vis env``: what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Annotated

import torch
import typer

import vis_core
from vis_core.host import provider

PACKAGES = ("torch", "torchvision", "numpy", "fvcore", "iopath", "pycocotools", "timm", "av", "opencv-python-headless")


def env(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print versions, device, and which detectron2 is in use.

    Example: vis env --json
    """
    facts = environment()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def environment() -> dict[str, str]:
    """Versions, device and provider by name."""
    import detectron2

    facts = {
        "vis-core": vis_core.__version__,
        "detectron2": f"{detectron2.__version__} ({provider()}: {os.path.dirname(detectron2.__file__)})",
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
    }
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    facts["cuda"] = str(torch.version.cuda) if torch.cuda.is_available() else "not available"
    facts["DETECTRON2_DATASETS"] = os.environ.get("DETECTRON2_DATASETS", "datasets (default)")
    return facts
