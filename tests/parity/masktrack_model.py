"""Our MaskTrack R-CNN with the fixtures' weights, filled under the published names and sent through our conversion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from weights import fill

import projects  # first: makes detectron2 importable
from vis_core.checkpoint import find_converter
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "masktrack_rcnn"


def published_shapes(root: Path, variant: str) -> dict[str, list[int]]:
    return json.loads((root / "masktrack" / f"keys_{variant}.json").read_text())


def filled(key: str, shape) -> torch.Tensor:
    """One published tensor, with the README's four deviations from the common fill."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    value = torch.from_numpy(np.array(fill(key, shape)))
    if key.endswith("roi_head.bbox_head.fc_cls.weight"):
        value *= 16
    elif key.endswith("roi_head.bbox_head.fc_cls.bias"):
        value[-1] += 17
    elif key.endswith("mask_head.conv_logits.weight"):
        value *= 10
    elif key.endswith("mask_head.conv_logits.bias"):
        value += 0.25
    elif key.endswith("track_head.embed_head.fcs.1.weight"):
        value *= 0.3
    return value


def config(variant: str, *opts: str):
    return merge_config(
        projects.default_config(), CONFIGS / f"ytvis19_{variant}_12e.yaml", ["MODEL.DEVICE", "cpu", *opts]
    )


def load(root: Path, variant: str, *opts: str):
    """The model of a published config, every tensor loaded, in eval mode."""
    model = build_model(config(variant, *opts))
    weights = {key: filled(key, shape) for key, shape in published_shapes(root, variant).items()}
    model.load_state_dict(find_converter(weights.keys()).convert(weights), strict=True)
    return model.eval()


def as_frames(rgb: np.ndarray) -> list[torch.Tensor]:
    """(T, H, W, 3) uint8 to T tensors (3, H, W)."""
    return [torch.from_numpy(frame).permute(2, 0, 1) for frame in rgb]


def unpack_masks(packed: np.ndarray, height: int, width: int) -> np.ndarray:
    """(n, ceil(H * W / 8)) bits to (n, H, W) bool."""
    return np.unpackbits(packed, axis=1, count=height * width).reshape(-1, height, width).astype(bool)


def clip_frame(seed: int, height: int, width: int) -> np.ndarray:
    """The README's drawn picture (H, W, 3) uint8 RGB: the first frame of ``clip_frames(seed, ...)``."""
    rs = np.random.RandomState(seed)
    cells = rs.randint(40, 216, (height // 16 + 4, width // 16 + 4, 3)).astype(np.uint8)
    background = cells.repeat(16, axis=0).repeat(16, axis=1)
    colours = rs.randint(0, 256, (3, 3)).astype(np.uint8)
    x0, y0 = rs.randint(8, width // 2, 3), rs.randint(8, height // 2, 3)
    widths, heights = rs.randint(width // 6, width // 3, 3), rs.randint(height // 6, height // 3, 3)
    frame = background[16 : 16 + height, 16 : 16 + width].copy()
    for k in range(3):
        frame[y0[k] : y0[k] + heights[k], x0[k] : x0[k] + widths[k]] = colours[k]
    return frame
