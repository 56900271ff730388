"""Clips, weights and models of the VMT fixtures, by their README's recipes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from weights import fill

import projects
from projects.vmt import checkpoint
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "vmt"
FILES = {"r50": "hq_ytvis_r50.yaml", "r101": "hq_ytvis_r101.yaml", "swin_l": "hq_ytvis_swinl.yaml"}
ALIAS = "detr.transformer.decoder.bbox_embed."


def config(name: str, *opts: str):
    """Our config for one of the original's models: "r50", "r101" or "swin_l"."""
    return merge_config(projects.default_config(), CONFIGS / FILES[name], ["MODEL.DEVICE", "cpu", *opts])


def published_shapes(root: Path, name: str) -> dict[str, list[int]]:
    return json.loads((root / f"keys_{name}.json").read_text())


def filled_tensor(key: str, shape, inc_bias: float | None = None, class_bias: bool = False) -> torch.Tensor:
    """A published tensor by the common fill; with the README's deviations if ``inc_bias`` is given."""
    value = torch.from_numpy(np.array(fill(key.replace(ALIAS, "detr.bbox_embed."), shape)))
    if inc_bias is None:
        return value
    if key == "detr.query_embed.weight":
        value *= np.sqrt(512).astype(np.float32)
    elif key == "controller.layers.2.bias":
        value[-1] = -20
    elif key == "controller_inc.layers.2.bias":
        value[-1] = inc_bias
    elif class_bias and key.startswith("detr.class_embed.") and key.endswith(".bias"):
        value[5], value[17] = 1.5, 1.2
    return value


def published_weights(root: Path, name: str, **deviations) -> dict[str, torch.Tensor]:
    """What a published checkpoint would hold."""
    return {
        key: filled_tensor(key, shape, **deviations)
        for key, shape in published_shapes(root, name).items()
        if not key.endswith("relative_position_index")
    }


def load(root: Path, name: str, *opts: str, **deviations) -> torch.nn.Module:
    """The filled model, through our checkpoint conversion, in eval mode."""
    model = build_model(config(name, *opts))
    incompatible = model.load_state_dict(checkpoint.convert(published_weights(root, name, **deviations)), strict=False)
    missing = [key for key in incompatible.missing_keys if not key.endswith("relative_position_index")]
    assert not missing and not incompatible.unexpected_keys, incompatible
    return model.eval()


def drawn_clip(seed: int, num_frames: int, height: int, width: int, crc: int | None = None) -> np.ndarray:
    """The README's clip (T, H, W, 3) uint8 RGB."""
    rs = np.random.RandomState(seed)
    blocks = rs.randint(0, 256, (num_frames, (height + 7) // 8 + 1, (width + 7) // 8 + 1, 3)).astype(np.float32)
    enlarged = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    noise = rs.randint(-20, 21, (num_frames, height, width, 3))
    mixed = np.floor(0.5 * enlarged + 0.5 * enlarged[0] + noise)
    frames = np.clip(mixed, 0, 255).astype(np.uint8)
    assert crc is None or zlib.crc32(frames.tobytes()) == crc
    return frames


def clip_with_crc(num_frames: int, height: int, width: int, crc: int) -> np.ndarray:
    """The clip whose pixels have this checksum; the files of whole runs do not name its seed."""
    for seed in range(1000):
        frames = drawn_clip(seed, num_frames, height, width)
        if zlib.crc32(frames.tobytes()) == crc:
            return frames
    raise AssertionError(f"no seed below 1000 draws a clip with checksum {crc}")


def as_frames(rgb: np.ndarray) -> list[torch.Tensor]:
    """(T, H, W, 3) uint8 to T tensors (3, H, W)."""
    return [torch.from_numpy(frame).permute(2, 0, 1).contiguous() for frame in rgb]
