"""Dataset records -> model inputs.

A training clip is a dict: ``image`` (list of T uint8 tensors (3, H, W)), ``instances`` (list of T Instances, see
clip_instances.py), ``file_names``, ``height``, ``width``, ``length``, ``video_id``, ``video_len``, ``frame_idx``.
Draws come from the global generators; the loader seeds them for every clip.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import detection_utils

from vis_core.data.augmentation import build_clip_augmentation
from vis_core.data.clip_instances import clip_instances
from vis_core.data.clip_transforms import ClipAugmentation, augment_clip
from vis_core.data.filtering import annotated_frames
from vis_core.data.frame_source import open_video
from vis_core.data.image_pixels import UNREADABLE, read_rgb
from vis_core.data.network_frames import NetworkFrames
from vis_core.data.references import serves_as_reference, shared_reference_frames, visible_by_class
from vis_core.data.sampling import ClipSampling
from vis_core.errors import ConfigError, DataError

REFERENCES = ("any", "annotated", "shared")
PSEUDO_LENGTHS = (16, 48)  # a clip made from one image pretends to come from a video of so many frames


class _ClipMapper:
    """What both mappers of training clips are made of.

    Args:
        sampling: chooses the frames.
        num_classes: class of a row whose track has no annotation in a frame.
        references: frames that may stand beside a key frame: "any", only "annotated" ones, or "shared": ones that show
            its objects (references.py).
        box_source: see :func:`vis_core.data.clip_instances.clip_instances`.
    """

    pseudo: bool  # which of the config's augmentations

    def __init__(
        self,
        sampling: ClipSampling,
        augmentation: ClipAugmentation,
        num_classes: int,
        image_format: str = "RGB",
        box_source: str = "mask",
        references: str = "any",
    ):
        if references not in REFERENCES:
            raise ConfigError(f"INPUT.SAMPLING_REFERENCE '{references}' is unknown; known: {', '.join(REFERENCES)}")
        self.sampling = sampling
        self.augmentation = augmentation
        self.num_classes = num_classes
        self.image_format = image_format
        self.box_source = box_source
        self.references = references

    @classmethod
    def from_config(cls, cfg, num_classes: int):
        return cls(
            sampling=ClipSampling.from_config(cfg),
            augmentation=build_clip_augmentation(cfg, pseudo=cls.pseudo),
            num_classes=num_classes,
            image_format=cfg.INPUT.FORMAT,
            box_source=cfg.INPUT.GT_BOXES,
            references=cfg.INPUT.SAMPLING_REFERENCE,
        )


class VideoClipMapper(_ClipMapper):
    """A video record -> an augmented clip of some of its frames."""

    pseudo = False

    def __call__(self, record: dict, frame: int | None = None) -> dict:
        """One clip, around ``frame`` if given.

        Raises:
            DataError: a frame is missing, broken, or not of the size in the annotation file; names file and video.
        """
        candidates = None
        if self.references == "annotated":
            candidates = annotated_frames(record)
        elif self.references == "shared":
            frame = random.randrange(record["length"]) if frame is None else frame
            candidates = shared_reference_frames(record, frame)
        frame_idx = self.sampling(record["length"], frame, candidates)
        read = {}
        for t in frame_idx:
            if t not in read:
                where = f"video {record['video_id']}, frame {t}"
                read[t] = read_frame(record["file_names"][t], self.image_format, record, where)
        images, instances = augmented_clip(
            [read[t] for t in frame_idx],
            [record["annotations"][t] for t in frame_idx],
            self.augmentation,
            self.num_classes,
            self.box_source,
        )
        return {
            "image": images,
            "instances": instances,
            "file_names": [record["file_names"][t] for t in frame_idx],
            "height": record["height"],
            "width": record["width"],
            "length": record["length"],
            "video_id": record["video_id"],
            "video_len": record["length"],
            "frame_idx": frame_idx,
        }


class PseudoClipMapper(_ClipMapper):
    """An image record -> a clip of differently augmented copies; the objects' ids are their order in the image.

    A video record gives a clip of one of its frames (INPUT.PSEUDO.IMAGE_MODE). With ``references`` "shared" a copy that
    lost objects of the first one, so that it is no reference for it (references.py), is replaced by the first one.
    """

    pseudo = True

    def __call__(self, record: dict, frame: int | None = None) -> dict:
        """One clip. Raises DataError as :class:`VideoClipMapper` does."""
        if "file_names" in record:
            record = _image_of_video(record, random.randrange(record["length"]) if frame is None else frame)
        length = random.randrange(PSEUDO_LENGTHS[0], PSEUDO_LENGTHS[1] + 1)
        frame_idx = self.sampling(length)
        num_frames = len(frame_idx)
        image = read_frame(record["file_name"], self.image_format, record, f"image {record['image_id']}")
        objects = [obj for obj in record["annotations"] if not obj.get("iscrowd", 0)]
        objects = [{**obj, "id": i} for i, obj in enumerate(objects)]
        images, instances = augmented_clip(
            [image] * num_frames, [objects] * num_frames, self.augmentation, self.num_classes, self.box_source
        )
        if self.references == "shared":
            shown = [visible_by_class(frame) for frame in instances]
            kept = [t if serves_as_reference(shown[0], shown[t]) else 0 for t in range(num_frames)]
            images, instances = [images[t] for t in kept], [instances[t] for t in kept]
        return {
            "image": images,
            "instances": instances,
            "file_names": [record["file_name"]] * num_frames,
            "height": record["height"],
            "width": record["width"],
            "length": length,
            "video_id": record["image_id"],
            "video_len": length,
            "frame_idx": frame_idx,
        }


class TestMapper:
    """A video record -> ``{"video_id", "height", "width", "length", "file_names", "image"}``, ``image`` lazy."""

    __test__ = False  # the name starts like a test's

    def __init__(self, cfg):
        self.cfg = cfg

    def __call__(self, record: dict) -> dict:
        source = open_video(record["file_names"], prefetch_frames=self.cfg.TEST.PREFETCH_FRAMES)
        fields = {key: record[key] for key in ("video_id", "height", "width", "length", "file_names")}
        size = (record["height"], record["width"])
        return {**fields, "image": NetworkFrames.from_config(self.cfg, source, size)}


def augmented_clip(
    images: Sequence[np.ndarray],
    objects: Sequence[Sequence[dict]],
    augmentation: ClipAugmentation,
    num_classes: int,
    box_source: str,
) -> tuple[list[torch.Tensor], list]:
    """Augment T images (H, W, 3) and their annotations; returns tensors (3, h, w) and Instances."""
    augmented, transforms = augment_clip(augmentation, images)
    sizes = [image.shape[:2] for image in augmented]
    instances = clip_instances(objects, transforms, images[0].shape[:2], sizes, num_classes, box_source)
    return [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in augmented], instances


def read_frame(path: str, image_format: str, record: dict, where: str) -> np.ndarray:
    """Image (H, W, 3) uint8. Raises DataError naming ``path`` and ``where``; also if the size is not the record's."""
    try:
        image = _read_pixels(path, image_format)
    except FileNotFoundError as e:
        raise DataError(f"{path}: file not found ({where})") from e
    except UNREADABLE as e:
        raise DataError(f"{path}: cannot be read as an image ({where}: {' '.join(str(e).split())})") from e
    if image.shape[:2] != (record["height"], record["width"]):
        raise DataError(
            f"{path}: height and width are {list(image.shape[:2])}, the annotation file says "
            f"[{record['height']}, {record['width']}] ({where})"
        )
    return image


def _read_pixels(path: str, image_format: str) -> np.ndarray:
    if image_format not in ("RGB", "BGR"):
        return detection_utils.read_image(path, format=image_format)
    frame = read_rgb(path)
    return frame if image_format == "RGB" else frame[:, :, ::-1]


def _image_of_video(record: dict, frame: int) -> dict:
    return {
        "file_name": record["file_names"][frame],
        "height": record["height"],
        "width": record["width"],
        "image_id": record["video_id"],
        "annotations": record["annotations"][frame],
    }
