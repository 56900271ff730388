"""The INPUT keys -> the clip augmentation they describe.

Order: [warped copies] -> [resize, crop] -> resize -> flip -> colours -> rotation. Pseudo-videos (clips made from one
image) have their own keys in INPUT.PSEUDO; resize, flip, crop and rotation are then always by clip, so that the copies
move like a camera.
"""

from __future__ import annotations

from detectron2.data import transforms as T

from vis_core.data.clip_transforms import (
    Chain,
    ClipAugmentation,
    FlipByClip,
    MovingCrop,
    OncePerClip,
    PerFrame,
    Resize,
    Sometimes,
    Spin,
    TurnedCopy,
    check_style,
)
from vis_core.data.photometric import PhotometricDistortion
from vis_core.data.warped_copy import WarpedCopy
from vis_core.errors import ConfigError

COLORS = {"brightness": T.RandomBrightness, "contrast": T.RandomContrast, "saturation": T.RandomSaturation}
COLOR_NAMES = (*COLORS, "photometric")
COLOR_RANGE = (0.9, 1.1)
VIDEO_ROTATION = 15.0  # degrees; pseudo-videos have INPUT.PSEUDO.ROTATE_ANGLE
ROTATION_CENTER = ((0.4, 0.4), (0.6, 0.6))
CROP_MODES = ("uniform", "same", "moving", "per_frame")
MAX_SIZE_BEFORE_CROP = 1333


def build_clip_augmentation(cfg, pseudo: bool = False) -> ClipAugmentation:
    """Augmentation of training clips, of real video or (``pseudo``) of clips made from one image.

    Raises:
        ConfigError: a key has an unknown value.
    """
    node, path = (cfg.INPUT.PSEUDO, "INPUT.PSEUDO") if pseudo else (cfg.INPUT, "INPUT")
    names = _checked_names(node.AUGMENTATIONS, path, pseudo)
    rotation = _rotation(cfg, pseudo) if "rotation" in names else []
    if "turned_copy" in names:
        rotation.append(TurnedCopy(node.ROTATE_ANGLE, node.TURN_SCALE))
    copies = _warped_copies(node) if "warped_copy" in names else []
    colors = [_color(name, cfg.INPUT.FORMAT) for name in names if name in COLOR_NAMES]
    flip = _flip(cfg.INPUT.RANDOM_FLIP, pseudo)
    if cfg.INPUT.LSJ_AUG.ENABLED:
        jitter, window = _large_scale_jitter(cfg.INPUT.LSJ_AUG, pseudo)
        return Chain([*copies, *flip, jitter, *colors, *rotation, window])
    backend = cfg.INPUT.RESIZE_BACKEND
    style = node.MIN_SIZE_TRAIN_SAMPLING
    check_style(style, path)
    if pseudo and not style.endswith("_by_clip"):
        style += "_by_clip"
    resize = Resize(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, style, backend, path)
    return Chain([*copies, *_crop(node.CROP, backend, path, pseudo), resize, *flip, *colors, *rotation])


def _checked_names(names: list[str], path: str, pseudo: bool) -> list[str]:
    known = [*COLOR_NAMES, "rotation"] + (["turned_copy", "warped_copy"] if pseudo else [])
    for name in names:
        if name not in known:
            raise ConfigError(f"{path}.AUGMENTATIONS: '{name}' is unknown; known: {', '.join(known)}")
    return names


def _color(name: str, image_format: str) -> ClipAugmentation:
    return PhotometricDistortion(image_format) if name == "photometric" else PerFrame(COLORS[name](*COLOR_RANGE))


def _warped_copies(pseudo) -> list[ClipAugmentation]:
    # Before all else, since the blur's size is one of the original image.
    return [WarpedCopy(pseudo.ROTATE_ANGLE, pseudo.SHIFT, pseudo.PERSPECTIVE, pseudo.BLUR_PROB, pseudo.BLUR_SIZES)]


def _crop(crop, backend: str, path: str, pseudo: bool) -> list[ClipAugmentation]:
    if not crop.ENABLED:
        return []
    if crop.MODE not in CROP_MODES:
        raise ConfigError(f"{path}.CROP.MODE '{crop.MODE}' is unknown; known: {', '.join(CROP_MODES)}")
    if crop.MODE in ("uniform", "per_frame"):
        spread = OncePerClip if crop.MODE == "uniform" else PerFrame
        window = spread(T.RandomCrop(crop.TYPE, tuple(crop.SIZE)))
    else:
        window = MovingCrop(crop.TYPE, crop.SIZE, still=crop.MODE == "same")
    first = [Resize(crop.RESIZE_FIRST, MAX_SIZE_BEFORE_CROP, "choice_by_clip", backend)] if crop.RESIZE_FIRST else []
    # Which half of the draws means a crop differs in the published code; seeded clips are comparable this way.
    return [Sometimes(Chain([*first, window]), crop.PROB, high=not pseudo)]


def _flip(kind: str, pseudo: bool) -> list[ClipAugmentation]:
    if kind == "none":
        return []
    if kind == "flip_by_clip" or (pseudo and kind == "horizontal"):
        return [FlipByClip()]
    if kind in ("horizontal", "vertical"):
        flip = T.RandomFlip(horizontal=kind == "horizontal", vertical=kind == "vertical")
        return [OncePerClip(flip) if pseudo else PerFrame(flip)]
    raise ConfigError(f"INPUT.RANDOM_FLIP '{kind}' is unknown; known: none, horizontal, vertical, flip_by_clip")


def _rotation(cfg, pseudo: bool) -> list[ClipAugmentation]:
    if pseudo:
        return [Spin(cfg.INPUT.PSEUDO.ROTATE_ANGLE)]
    limits = [-VIDEO_ROTATION, VIDEO_ROTATION]
    return [PerFrame(T.RandomRotation(limits, expand=False, center=ROTATION_CENTER, sample_style="range"))]


def _large_scale_jitter(lsj, pseudo: bool) -> tuple[ClipAugmentation, ClipAugmentation]:
    """Random scale, and the window of fixed size cut from or padded around the result (VITA, DVIS)."""
    size = lsj.IMAGE_SIZE
    spread = OncePerClip if pseudo else PerFrame
    # Padding is no object, so masks are padded with 0 there, not with the "ignore" label.
    window = T.FixedSizeCrop(crop_size=(size, size), seg_pad_value=0)
    return spread(T.ResizeScale(lsj.MIN_SCALE, lsj.MAX_SCALE, size, size)), spread(window)
