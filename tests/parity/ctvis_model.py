"""Clips, scripted random numbers and models of the CTVIS and Mask2Former fixtures, by their READMEs' recipes."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from weights import fill

import projects
from projects.ctvis import VideoTracks
from vis_core.config import merge_config

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "ctvis"
FILES = {
    "ytvis_2019/CTVIS_R50": "ytvis19_r50.yaml",
    "ytvis_2019/CTVIS_SwinL": "ytvis19_swinl.yaml",
    "ytvis_2021/CTVIS_R50": "ytvis21_r50.yaml",
    "ytvis_2021/CTVIS_SwinL": "ytvis21_swinl.yaml",
    "ovis/CTVIS_R50": "ovis_r50.yaml",
    "ovis/CTVIS_SwinL": "ovis_swinl.yaml",
}


def config(original: str, *opts: str):
    """Our config for one of the original's names, e.g. "ytvis_2019/CTVIS_R50"."""
    return merge_config(projects.default_config(), CONFIGS / FILES[original], ["MODEL.DEVICE", "cpu", *opts])


def filled(key: str, shape) -> torch.Tensor:
    """One tensor by the common fill, with deviation B of fixtures/mask2former/README.md."""
    value = torch.from_numpy(np.array(fill(key, shape)))
    if key.endswith(("predictor.query_feat.weight", "predictor.query_embed.weight")):
        value *= 16
    elif ".predictor.transformer_" in key and key.endswith("out_proj.weight"):
        value *= 0.2
    elif key.endswith("predictor.class_embed.weight"):
        value *= 8
    elif key.endswith("predictor.class_embed.bias"):
        value[-1] += 10
    return value


def fill_model(model: torch.nn.Module) -> torch.nn.Module:
    """Fill all floating tensors of the state dict, except for the criterion's class weights."""
    state = {
        key: filled(key, value.shape) if value.is_floating_point() and key != "criterion.empty_weight" else value
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def load(original: str, *opts: str) -> torch.nn.Module:
    """The filled model of one of the original's configs, in eval mode."""
    model = fill_model(build_model(config(original, *opts)))
    model.eval()
    return model


def drawn_clip(seed: int, num_frames: int, height: int, width: int, sha1: str | None = None) -> np.ndarray:
    """The README's clip (T, H, W, 3) uint8 RGB: two rectangles moving over blocks."""
    rs = np.random.RandomState(seed)
    blocks = rs.randint(0, 256, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
    background = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    colours = rs.randint(0, 256, (2, 3))
    start, velocity, size = rs.randint(5, 30, (2, 2)), rs.randint(-3, 7, (2, 2)), rs.randint(18, 40, (2, 2))
    frames = np.stack([background] * num_frames)
    for t, k in itertools.product(range(num_frames), range(2)):
        y, x = np.maximum(start[k] + t * velocity[k], 0)
        frames[t, y : y + size[k, 0], x : x + size[k, 1]] = colours[k]
    assert sha1 is None or hashlib.sha1(frames.tobytes()).hexdigest() == sha1
    return frames


def as_frames(rgb: np.ndarray) -> list[torch.Tensor]:
    """(T, H, W, 3) uint8 to T tensors (3, H, W)."""
    return [torch.from_numpy(frame).permute(2, 0, 1) for frame in rgb]


def track_masks(tracks: VideoTracks, num_frames: int) -> list[list[dict | None]]:
    """The run-length masks of every track, also of those that are not put out."""
    return [tracks._masks.segmentations(track.key, num_frames) for track in tracks._tracks.values()]


class ScriptedRand:
    """Stands in for torch.rand: the k-th call gives what ``RandomState(base + k)`` draws, as float32."""

    def __init__(self, base: int):
        self.base = base
        self.shapes: list[list[int]] = []

    def __call__(self, *size, **kwargs) -> torch.Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        drawn = np.random.RandomState(self.base + len(self.shapes)).random_sample(tuple(shape))
        self.shapes.append(list(shape))
        return torch.from_numpy(drawn.astype(np.float32)).to(torch.get_default_dtype())
