"""Configuration keys that every method shares, and the one way to read a config file.

A method adds its own keys in ``projects/<method>/config.py``; ``projects.default_config()`` puts all of them together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path

import torch
from detectron2.config import CfgNode as CN

from vis_core.config_file import check_file
from vis_core.errors import ConfigError

# Keys that may be empty and hold names.
_NAME_KEYS = ("DATASETS.TRAIN", "DATASETS.TEST", "INPUT.AUGMENTATIONS")


def add_vis_config(cfg: CN) -> None:
    """Add the shared keys to Detectron2's defaults, in place."""
    # "cpu", "cuda", "cuda:1", ...
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _add_model_keys(cfg)
    _add_input_keys(cfg)
    _add_dataset_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)


def _add_model_keys(cfg: CN) -> None:
    # A ResNet of any width (vis_core/modeling/small_resnet.py): channels (WIDTHS) and residual BLOCKS of res2 to res5.
    cfg.MODEL.SMALL_RESNET = CN({"WIDTHS": [32, 64, 128, 256], "BLOCKS": [2, 2, 2, 2]})


def _add_input_keys(cfg: CN) -> None:
    # Clips of videos (vis_core/data/sampling.py).

    # Frames per clip.
    cfg.INPUT.SAMPLING_FRAME_NUM = 2
    # How many frames away from the one drawn first the others may lie.
    cfg.INPUT.SAMPLING_FRAME_RANGE = 20
    # How the frames of a clip are drawn:
    #   "window"       a frame and others within SAMPLING_FRAME_RANGE of it, sorted (Mask2Former-video, VITA, CTVIS)
    #   "consecutive"  frames in a row (DVIS)
    #   "neighbours"   a frame, one 1-3 before, one 1-3 after, the rest from outside these (SeqFormer, VMT)
    #   "reference"    a key frame, which stays first, and frames within SAMPLING_FRAME_RANGE of it (MaskTrack R-CNN)
    cfg.INPUT.SAMPLING_RULE = "window"
    # What an epoch counts: "video", "frame" (every frame of every video once, a clip around each) or "key_frame"
    # (every frame with a usable object once).
    cfg.INPUT.SAMPLING_UNIT = "video"
    # Rule "reference": frames that may stand beside the key frame: "any", only "annotated" ones, or "shared": ones that
    # show all of its objects whose class they show (Propose-Reduce; vis_core/data/references.py).
    cfg.INPUT.SAMPLING_REFERENCE = "any"
    # Rule "window": the other frames lie at least so far away (1 = any other frame; IDOL).
    cfg.INPUT.SAMPLING_INTERVAL = 1
    # Below 1 only this evenly spaced share of a video's frames is drawn from; needs one frame per clip (MinVIS).
    cfg.INPUT.SAMPLING_FRAME_RATIO = 1.0
    # Shuffle the frames of a clip.
    cfg.INPUT.SAMPLING_FRAME_SHUFFLE = False
    # Rule "consecutive": play half of the clips backwards.
    cfg.INPUT.REVERSE_AGU = False
    # Replace a clip in which no object is visible by one of another video (SeqFormer, VMT).
    cfg.INPUT.SAMPLING_REDRAW_EMPTY = False

    # Ground truth boxes of clips: tight around the transformed "mask", the transformed box of the "annotation", or from
    # its first to its last of the "pixels", transformed like points (Propose-Reduce).
    cfg.INPUT.GT_BOXES = "mask"

    # Augmentation (vis_core/data/augmentation.py). Besides Detectron2's values INPUT.MIN_SIZE_TRAIN_SAMPLING knows
    # "choice_by_clip" and "range_by_clip", and INPUT.RANDOM_FLIP "flip_by_clip": one draw for all frames of a clip.

    # Any of "brightness", "contrast", "saturation", "rotation", "photometric" (SSD's distortion: all these colours, hue
    # and the order of channels); each frame has its own draw.
    cfg.INPUT.AUGMENTATIONS = []
    # How frames are resized, in training and testing: "pillow" (Detectron2's antialiased bilinear and size rule),
    # "pillow_floor" (same with DETR's size rule: the long side is cut, not rounded, to whole pixels; SeqFormer, VMT)
    # or "opencv" (plain bilinear and mmdetection's size rule, which the published MaskTrack R-CNN weights saw).
    cfg.INPUT.RESIZE_BACKEND = "pillow"
    # With INPUT.CROP.ENABLED: share of clips that are cropped.
    cfg.INPUT.CROP.PROB = 0.5
    # The crop's window: one "uniform" draw per clip (VMT), "moving" from a random corner to another, the "same"
    # for all frames (CTVIS: where a moving one begins, more often at the bottom and right), or drawn anew "per_frame".
    cfg.INPUT.CROP.MODE = "same"
    # Short sides of which one is drawn to resize the clip to before it is cropped; none: crop the original.
    cfg.INPUT.CROP.RESIZE_FIRST = ()
    # Large-scale jitter instead of resize and crop, if ENABLED: scaled by a factor from MIN_SCALE to MAX_SCALE, 1 being
    # what fits into IMAGE_SIZE squared pixels, then cut or padded to that size (VITA, DVIS).
    cfg.INPUT.LSJ_AUG = CN({"ENABLED": False, "IMAGE_SIZE": 1024, "MIN_SCALE": 0.1, "MAX_SCALE": 2.0})

    # Pseudo-videos: clips of differently augmented copies of one image, moving like a camera. Sizes, flip and crop are
    # always drawn by clip.
    cfg.INPUT.PSEUDO = CN()
    # As INPUT.AUGMENTATIONS, where "rotation" turns steadily up to ROTATE_ANGLE; and "turned_copy", "warped_copy".
    cfg.INPUT.PSEUDO.AUGMENTATIONS = ["rotation"]
    # As Detectron2's keys of these names below INPUT: MIN_SIZE_TRAIN, MAX_SIZE_TRAIN, MIN_SIZE_TRAIN_SAMPLING.
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768)
    cfg.INPUT.PSEUDO.MAX_SIZE_TRAIN = 768
    cfg.INPUT.PSEUDO.MIN_SIZE_TRAIN_SAMPLING = "choice_by_clip"
    # How far copies are turned at most, degrees.
    cfg.INPUT.PSEUDO.ROTATE_ANGLE = 15.0
    # "turned_copy" in INPUT.PSEUDO.AUGMENTATIONS: one frame of a clip stays as it is, the others are turned by up to
    # ROTATE_ANGLE degrees and scaled by a factor from this range (Propose-Reduce).
    cfg.INPUT.PSEUDO.TURN_SCALE = (0.9, 1.1)
    # "warped_copy": one frame stays, the others differ in colours, PERSPECTIVE (how far corners move: a standard
    # deviation, as a share of the sides), place (SHIFT, a share of the sides) and angle (ROTATE_ANGLE), and with
    # probability BLUR_PROB by motion blur of one of BLUR_SIZES, pixels (SeqFormer, VMT).
    cfg.INPUT.PSEUDO.PERSPECTIVE = 0.08
    cfg.INPUT.PSEUDO.SHIFT = 0.1
    cfg.INPUT.PSEUDO.BLUR_PROB = 0.25
    cfg.INPUT.PSEUDO.BLUR_SIZES = (9, 11)
    # The crop of pseudo-videos.
    cfg.INPUT.PSEUDO.CROP = CN()
    # As the keys of these names below INPUT.CROP: ENABLED, TYPE and SIZE (Detectron2's), PROB, MODE, RESIZE_FIRST.
    cfg.INPUT.PSEUDO.CROP.ENABLED = False
    cfg.INPUT.PSEUDO.CROP.TYPE = "absolute_range"
    cfg.INPUT.PSEUDO.CROP.SIZE = (384, 600)
    cfg.INPUT.PSEUDO.CROP.PROB = 0.5
    cfg.INPUT.PSEUDO.CROP.MODE = "moving"
    cfg.INPUT.PSEUDO.CROP.RESIZE_FIRST = (400, 500, 600)
    # Leave out images with more objects than this (crowd regions do not count); 0: none (VMT: 25).
    cfg.INPUT.PSEUDO.MAX_OBJECTS = 0
    # Make pseudo-videos of video data sets too, each from a random frame.
    cfg.INPUT.PSEUDO.IMAGE_MODE = False


def _add_dataset_keys(cfg: CN) -> None:
    # Data sets of your own, to be used in TRAIN and TEST: a list of {NAME: fish_train, JSON: fish/train.json,
    # FRAMES: fish/frames}, paths relative to the working folder (vis_core/data/custom.py, docs/own-data.md).
    cfg.DATASETS.CUSTOM = []
    # Weights of the data sets in DATASETS.TRAIN; empty: one list of all their clips, each shown once an epoch.
    cfg.DATASETS.DATASET_RATIO = []
    # True: every clip of a batch comes from a data set drawn for it. False: each process fills a batch from a single
    # data set. The original code did this by accident (a shared buffer), and the published numbers depend on it; the
    # draws then depend on the number of processes.
    cfg.DATASETS.MIX_WITHIN_BATCH = True
    # Must stay False: incompatible with batches that depend only on seed and iteration (vis_core/data/loader.py).
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False


def _add_solver_keys(cfg: CN) -> None:
    # SOLVER.CLIP_GRADIENTS.CLIP_TYPE knows "full_model" besides Detectron2's "value" and "norm".

    # "SGD" or "ADAMW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Multiplier of the backbone's learning rate.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    # Pairs of a module's name and the multiplier of the learning rate below it, as [["sampling_offsets", 0.1]].
    cfg.SOLVER.LR_MULTIPLIERS = []
    # Weight decay of embedding tables (queries, levels).
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # Number type of training with SOLVER.AMP.ENABLED: "float16" (with loss scaling; on a CPU it is "bfloat16", too) or
    # "bfloat16".
    cfg.SOLVER.AMP.PRECISION = "float16"


def _add_test_keys(cfg: CN) -> None:
    # How many decoded frames the reader keeps ahead of the model.
    cfg.TEST.PREFETCH_FRAMES = 4
    # Write submission.zip beside results.json (YouTube-VIS style data sets).
    cfg.TEST.WRITE_SUBMISSION = True


def merge_config(cfg: CN, config_file: str | Path | None = None, opts: list[str] | None = None) -> CN:
    """Merge a yaml file (with its ``_BASE_`` files) and ``KEY VALUE`` pairs into ``cfg``, in place; returns it.

    A value is written as in Python: ``3``, ``(1, 2)``, ``('a', 'b')``, or a plain name. Where a key takes several
    names, a plain one (``DATASETS.TEST my_val``) means a tuple of it alone.

    Raises:
        ConfigError: for a missing file, broken yaml, an unknown key (with the nearest known one) or a wrong type.
    """
    known = leaves(cfg)
    if config_file:
        path = Path(config_file)
        if not path.is_file():
            raise ConfigError(f"config file not found: {path}")
        check_file(path, cfg)
        try:
            cfg.merge_from_file(str(path), allow_unsafe=False)
        except KeyError as e:
            raise ConfigError(f"{path}: {_unknown_key(e, known)}") from e
        except (ValueError, AssertionError, OSError) as e:
            raise ConfigError(f"{path}: {' '.join(str(e).split())}") from e
    opts = opts or []
    if len(opts) % 2:
        raise ConfigError(f"options must come as KEY VALUE pairs, got an odd number: {' '.join(opts)}")
    for key, value in zip(opts[::2], opts[1::2]):
        if key not in known:
            raise ConfigError(_unknown_key(KeyError(key), known))
        _merge_option(cfg, key, value, known[key])
    return cfg


def _merge_option(cfg: CN, key: str, value: str, current: object) -> None:
    several = isinstance(current, (tuple, list))
    names = key in _NAME_KEYS or (several and current and all(isinstance(item, str) for item in current))
    plain_name = re.fullmatch(r"[^\W\d][\w./-]*", str(value)) and str(value) not in ("None", "True", "False")
    try:
        cfg.merge_from_list([key, (value,) if names and plain_name else value])
    except ValueError as e:
        example = "('a', 'b')" if names else "(1, 2)"
        reason = f'takes several values, written as "{example}"' if several else " ".join(str(e).split())
        raise ConfigError(f"{key} {value}: {reason}") from e


def leaves(node: CN, prefix: str = "") -> dict[str, object]:
    """All values below a node by their full key; ``prefix`` is the node's own, with a dot."""
    found = {}
    for key, value in node.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, CN) else {prefix + key: value}
    return found


def _unknown_key(error: KeyError, known: Collection[str]) -> str:
    key = str(error.args[0]).removeprefix("Non-existent config key: ").strip()
    if any(name.startswith(f"{key}.") for name in known):
        return f"{key} is a section: a key below it is needed"
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown config key {key}" + (f" (did you mean {close[0]}?)" if close else "")


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Raises ConfigError if the config ``key`` has a ``value`` other than ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key}: '{value}' is not one of {', '.join(choices)}")


def check_device(cfg: CN) -> None:
    """Raises ConfigError if ``MODEL.DEVICE`` names a device that this machine does not have."""
    try:
        torch.zeros(1, device=cfg.MODEL.DEVICE)
    except (RuntimeError, AssertionError) as e:
        reason = str(e).splitlines()[0].split(". ")[0].rstrip(".")
        raise ConfigError(
            f"MODEL.DEVICE: '{cfg.MODEL.DEVICE}' cannot be used here ({reason}); to run without, "
            "set MODEL.DEVICE cpu (vis: --device cpu)"
        ) from e
