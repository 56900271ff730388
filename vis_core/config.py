"""Configuration keys that every method shares, and the one way to read a config file.

A method adds its own keys in ``projects/<method>/config.py``; ``projects.default_config()`` puts all of them together.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode as CN

from vis_core.errors import ConfigError


def add_vis_config(cfg: CN) -> None:
    """Add the shared keys to Detectron2's defaults, in place."""
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _add_model_keys(cfg)
    _add_input_keys(cfg)
    _add_dataset_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)


def _add_model_keys(cfg: CN) -> None:
    # A narrow ResNet-18 (vis_core/modeling/small_resnet.py): channels of res2..res5, and residual blocks in each.
    cfg.MODEL.SMALL_RESNET = CN({"WIDTHS": [32, 64, 128, 256], "BLOCKS": [2, 2, 2, 2]})


def _add_input_keys(cfg: CN) -> None:
    # Clip sampling (vis_core/data/sampling.py).
    cfg.INPUT.SAMPLING_FRAME_NUM = 2
    cfg.INPUT.SAMPLING_FRAME_RANGE = 20
    cfg.INPUT.SAMPLING_FRAME_SHUFFLE = False
    cfg.INPUT.SAMPLING_INTERVAL = 1
    cfg.INPUT.SAMPLING_FRAME_RATIO = 1.0
    cfg.INPUT.REVERSE_AGU = False
    # What one step of an epoch is: "video" (a clip around a random frame) or "key_frame" (every annotated
    # frame once, with reference frames drawn around it; the key frame comes first in the clip).
    cfg.INPUT.SAMPLING_UNIT = "video"
    # Which rule draws the frames of a clip; see vis_core/data/sampling.py for the names.
    cfg.INPUT.SAMPLING_RULE = "window"

    # Augmentation by clip (vis_core/data/augmentation.py). INPUT.MIN_SIZE_TRAIN_SAMPLING and INPUT.RANDOM_FLIP
    # know the values choice_by_clip, range_by_clip and flip_by_clip besides Detectron2's.
    cfg.INPUT.AUGMENTATIONS = []
    # How frames are resized: "pillow" (Detectron2's antialiased bilinear) or "opencv" (plain bilinear, which the
    # published MaskTrack R-CNN weights were trained with).
    cfg.INPUT.RESIZE_BACKEND = "pillow"
    cfg.INPUT.CROP.PROB = 0.5
    cfg.INPUT.LSJ_AUG = CN({"ENABLED": False, "IMAGE_SIZE": 1024, "MIN_SCALE": 0.1, "MAX_SCALE": 2.0})

    # Pseudo-videos made from single images.
    cfg.INPUT.PSEUDO = CN()
    cfg.INPUT.PSEUDO.AUGMENTATIONS = ["rotation"]
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768)
    cfg.INPUT.PSEUDO.MAX_SIZE_TRAIN = 768
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN_SAMPLING = "choice_by_clip"
    cfg.INPUT.PSEUDO.ROTATE_ANGLE = 15.0
    cfg.INPUT.PSEUDO.CROP = CN({"ENABLED": False, "TYPE": "absolute_range", "SIZE": (384, 600)})
    cfg.INPUT.PSEUDO.IMAGE_MODE = False


def _add_dataset_keys(cfg: CN) -> None:
    # Weights of the training sets; empty = in proportion to nothing, every set alike.
    cfg.DATASETS.DATASET_RATIO = []
    # Mix training sets within a batch (sound) or give every batch to one set (what the originals' shared
    # buffer did, and what their published numbers used).
    cfg.DATASETS.MIX_WITHIN_BATCH = True


def _add_solver_keys(cfg: CN) -> None:
    cfg.SOLVER.OPTIMIZER = "SGD"  # or "ADAMW"
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    cfg.SOLVER.AMP.PRECISION = "float16"  # or "bfloat16"
    # SOLVER.CLIP_GRADIENTS.CLIP_TYPE knows "full_model" besides Detectron2's "value" and "norm".


def _add_test_keys(cfg: CN) -> None:
    # How many decoded frames the reader keeps ahead of the model.
    cfg.TEST.PREFETCH_FRAMES = 4
    # Write the submission zip beside results.json.
    cfg.TEST.WRITE_SUBMISSION = True


def merge_config(cfg: CN, config_file: str | Path | None = None, opts: list[str] | None = None) -> CN:
    """Merge a yaml file (with its ``_BASE_`` files) and ``KEY VALUE`` pairs into ``cfg``, in place; returns it.

    Raises:
        ConfigError: for a missing file, broken yaml, an unknown key (with the nearest known one) or a wrong type.
    """
    known = _leaf_names(cfg)
    if config_file:
        path = Path(config_file)
        if not path.is_file():
            raise ConfigError(f"config file not found: {path}")
        try:
            cfg.merge_from_file(str(path), allow_unsafe=False)
        except KeyError as e:
            raise ConfigError(f"{path}: {_unknown_key(e, known)}") from e
        except yaml.YAMLError as e:
            raise ConfigError(f"{path}: not valid yaml: {' '.join(str(e).split())}") from e
        except (ValueError, AssertionError, OSError) as e:
            raise ConfigError(f"{path}: {' '.join(str(e).split())}") from e
    opts = opts or []
    if len(opts) % 2:
        raise ConfigError(f"options must come as KEY VALUE pairs, got an odd number: {' '.join(opts)}")
    for key, value in zip(opts[::2], opts[1::2]):
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, AssertionError) as e:
            raise ConfigError(_unknown_key(KeyError(key), known)) from e
        except ValueError as e:
            raise ConfigError(f"{key} {value}: {' '.join(str(e).split())}") from e
    return cfg


def _leaf_names(node: CN, prefix: str = "") -> list[str]:
    names = []
    for key, value in node.items():
        names += _leaf_names(value, f"{prefix}{key}.") if isinstance(value, CN) else [prefix + key]
    return names


def _unknown_key(error: KeyError, known: list[str]) -> str:
    key = str(error.args[0]).removeprefix("Non-existent config key: ").strip()
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown config key {key}" + (f" (did you mean {close[0]}?)" if close else "")


def check_device(cfg: CN) -> None:
    """Raises ConfigError if ``MODEL.DEVICE`` names a device that this machine does not have."""
    try:
        torch.zeros(1, device=cfg.MODEL.DEVICE)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(f"MODEL.DEVICE: '{cfg.MODEL.DEVICE}' cannot be used here: {str(e).splitlines()[0]}") from e
