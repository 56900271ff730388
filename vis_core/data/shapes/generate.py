"""ShapesVIS on disk: frames in YouTube-VIS layout and one json, made once, in a folder named after the parameters."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
from iopath.common.file_io import file_lock

from vis_core.errors import DataError
from vis_core.tube import encode_masks

from .config import ShapesConfig
from .outlines import CATEGORIES
from .render import render_frame
from .scene import make_scene

logger = logging.getLogger(__name__)

# An object of which less is seen counts as absent, as no annotator would mark it.
_MIN_VISIBLE_PIXELS = 8
_JPEG_QUALITY = 92


def shapes_paths(root: str | Path, config: ShapesConfig) -> tuple[Path, Path]:
    """Where the data set of ``config`` lies (or will lie) under ``root``: (json file, image root)."""
    folder = Path(root) / config.cache_name()
    return folder / "instances.json", folder / "JPEGImages"


def generate_shapes(root: str | Path, config: ShapesConfig) -> tuple[Path, Path]:
    """Make the data set of ``config`` under ``root`` unless it is there; returns (json file, image root).

    The files appear all at once (written elsewhere, then renamed), and of several processes that ask at the same
    time one works while the others wait. Raises DataError if the folder cannot be written.
    """
    json_file, image_root = shapes_paths(root, config)
    folder = json_file.parent
    if json_file.is_file():
        return json_file, image_root
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        with file_lock(str(folder.with_name("." + folder.name))):
            if not json_file.is_file():
                _generate(folder, config)
    except OSError as e:
        raise DataError(f"{folder}: cannot write the generated data set: {e}") from e
    return json_file, image_root


def _generate(folder: Path, config: ShapesConfig) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.partial"):  # of a killed process; we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    start = time.perf_counter()
    logger.info("Generating ShapesVIS (%d videos of %d frames) in %s", config.num_videos, config.length, folder)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        content = _empty_json(config)
        for index in range(config.num_videos):
            _add_video(content, partial / "JPEGImages", config, index)
        (partial / "instances.json").write_text(json.dumps(content))
        partial.chmod(0o755)  # mkdtemp makes private folders
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    logger.info("Generated ShapesVIS in %.1f s", time.perf_counter() - start)


def _empty_json(config: ShapesConfig) -> dict:
    return {
        "info": {"description": "ShapesVIS, a generated data set", "parameters": dataclasses.asdict(config)},
        "categories": [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CATEGORIES)],
        "videos": [],
        "annotations": [],
    }


def _add_video(content: dict, image_root: Path, config: ShapesConfig, index: int) -> None:
    """Render one video, write its frames and append its entries to ``content``."""
    scene = make_scene(config, index)
    video_id, name = index + 1, f"{index:05d}"
    (image_root / name).mkdir(parents=True)
    tracks = [_empty_track(video_id, obj.category + 1, config) for obj in scene.objects]
    file_names = []
    for frame in range(config.length):
        image, owner, areas = render_frame(scene, frame)
        file_names.append(f"{name}/{frame:05d}.{config.image_format}")
        _write_image(image_root / file_names[-1], image)
        _add_masks(tracks, owner, areas)
    content["videos"].append(
        {
            "id": video_id,
            "height": config.height,
            "width": config.width,
            "length": config.length,
            "file_names": file_names,
        }
    )
    for track in tracks:
        if any(track["segmentations"]):
            content["annotations"].append({"id": len(content["annotations"]) + 1, **track})


def _empty_track(video_id: int, category_id: int, config: ShapesConfig) -> dict:
    return {
        "video_id": video_id,
        "category_id": category_id,
        "iscrowd": 0,
        "height": config.height,
        "width": config.width,
        "length": config.length,
        "segmentations": [],
        "bboxes": [],
        "areas": [],
        "occlusion": [],
    }


def _add_masks(tracks: list[dict], owner: np.ndarray, full_areas: np.ndarray) -> None:
    """Append one frame's visible masks, boxes, areas and OVIS-style occlusion levels to the tracks."""
    masks = owner == np.arange(len(tracks), dtype=owner.dtype)[:, None, None]  # (N, H, W)
    rles = encode_masks(masks)
    for track, rle, full_area in zip(tracks, rles, full_areas):
        area = int(coco_mask.area(rle))
        visible = area >= _MIN_VISIBLE_PIXELS
        track["segmentations"].append(rle if visible else None)
        track["bboxes"].append(coco_mask.toBbox(rle).tolist() if visible else None)
        track["areas"].append(area if visible else None)
        track["occlusion"].append(_occlusion_level(1 - area / full_area) if visible else None)


def _occlusion_level(hidden: float) -> str:
    if hidden == 0:
        return "no_occlusion"
    return "slight_occlusion" if hidden <= 0.5 else "severe_occlusion"


def _write_image(path: Path, image: np.ndarray) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    ok, data = cv2.imencode(path.suffix, image[..., ::-1], options)
    if not ok:
        raise OSError(f"{path}: encoding failed")
    path.write_bytes(data.tobytes())
