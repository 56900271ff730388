"""Our Seq Mask R-CNN with the fixtures' weights, filled under the released names and sent through our conversion."""

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

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "seq_mask_rcnn"
# Factors of the README's "e2e rules", by key.
FACTORS = {
    "bbox_head.fc_cls.weight": 6,
    "prop_head.enc_pos.weight": 20,
    "prop_head.atn_key.weight": 4,
    "prop_head.qry_atn_key.weight": 4,
    "prop_head.RF2.convFS.weight": 0.2,
    "prop_head.RF3.convFS.weight": 0.2,
}


def published_shapes(root: Path, variant: str, num_classes: int = 40) -> dict[str, list[int]]:
    """Shapes by released key; with another number of classes as the spec says they change."""
    shapes = json.loads((root / "propose_reduce" / f"keys_{variant}.json").read_text())
    rows = {
        "bbox_head.fc_cls": num_classes + 1,
        "bbox_head.fc_reg": 4 * (num_classes + 1),
        "mask_head.conv_logits": num_classes + 1,
        "prop_head.conv_logits": num_classes + 1,
    }
    return {
        key: [rows.get(key.rpartition(".")[0], shape[0]), *shape[1:]] if shape else [] for key, shape in shapes.items()
    }


def filled(key: str, shape, background: float | None) -> torch.Tensor:
    """One released tensor; ``background``: the e2e rules' shift of the background logit, None for the plain fill."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    value = torch.from_numpy(np.array(fill(key, shape)))
    if background is None:
        return value
    if key == "bbox_head.fc_cls.bias":
        value[0] += background
    if key == "rpn_head.rpn_reg.bias":
        value[2::4] += 0.8
        value[3::4] += 0.8
    return value * FACTORS.get(key, 1)


def config(name: str, *opts: str):
    return merge_config(projects.default_config(), CONFIGS / f"{name}.yaml", ["MODEL.DEVICE", "cpu", *opts])


def load(root: Path, variant: str, background: float | None, cfg):
    """The model of a config, every tensor loaded from the filled released ones, in eval mode."""
    model = build_model(cfg)
    shapes = published_shapes(root, variant, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    weights = {key: filled(key, shape, background) for key, shape in shapes.items()}
    model.load_state_dict(find_converter(weights.keys()).convert(weights), strict=True)
    return model.eval()


def clip(seed: int, num_frames: int, height: int, width: int) -> np.ndarray:
    """The README's drawn video, (T, H, W, 3) uint8 BGR."""
    rs = np.random.RandomState(seed)
    blocks = rs.randint(40, 160, (-(-height // 8), -(-width // 8), 3))
    background = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    objects = []
    for _ in range(3):
        centre = rs.randint(width // 5, 4 * width // 5), rs.randint(height // 5, 4 * height // 5)
        radii = rs.randint(width // 12, width // 5), rs.randint(height // 12, height // 4)
        speed = rs.randint(-4, 5), rs.randint(-3, 4)
        objects.append((centre, radii, speed, rs.randint(0, 256, 3)))
    y, x = np.mgrid[:height, :width]
    frames = []
    for t in range(num_frames):
        frame = np.roll(background, t, axis=1).copy()
        for (cx, cy), (rx, ry), (vx, vy), colour in objects:
            dx, dy = x - cx - vx * t, y - cy - vy * t
            inside = dx**2 * ry**2 + dy**2 * rx**2 <= (rx * ry) ** 2
            pattern = 40 * ((dx // 4 + dy // 4) % 2)
            frame[inside] = ((colour + pattern[..., None]) % 256)[inside]
        frames.append(np.clip(frame + rs.randint(0, 8, frame.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)
