"""Video Mask Transfiner against the released code's numbers: names, units, whole forward passes, results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import root
from vmt_model import as_frames, config, drawn_clip, filled_tensor, load, published_shapes, published_weights
from weights import fill

import projects  # noqa: F401  makes detectron2 importable
from projects.vmt import checkpoint
from projects.vmt.detail import box_masks, near_contours, pick_points
from projects.vmt.dynamic import double_size, dynamic_masks, pixel_centres, split_parameters
from projects.vmt.features import MaskDecoder
from projects.vmt.refiner import RefineEncoder
from projects.vmt.results import VideoObjects
from vis_core.data import NetworkFrames, open_video
from vis_core.modeling.clip_transformer import (
    ClipDecoder,
    ClipDeformAttn,
    ClipEncoder,
    FrameTokens,
    centred_position_code,
    unpadded_position_code,
)
from vis_core.modeling.mask2former.position_code import sine_position_code
from vis_core.ops import ms_deform_attn
from vis_core.tube import decode_mask

from detectron2.modeling import build_model  # isort: skip

FOLDER = root() / "vmt"
TOLERANCE = 1e-4  # of the tensor's scale


def files(pattern: str) -> list[Path]:
    found = sorted(FOLDER.glob(pattern))
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"no {pattern} among these fixtures"))]


def stem(path: Path | None) -> str:
    return path.stem if path else "none"


def unit(pattern: str):
    return pytest.mark.parametrize("path", files(pattern), ids=stem)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


def assert_close(ours, theirs, scale: float | None = None, tolerance: float = TOLERANCE) -> None:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float64)
    theirs = np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    scale = scale or max(np.abs(theirs).max(), 1e-6)
    assert np.abs(ours - theirs).max() <= tolerance * scale, np.abs(ours - theirs).max() / scale


def assert_sampled(ours: torch.Tensor, data: dict, name: str) -> None:
    """Against NAME.shape, NAME.idx, NAME.val, NAME.stats."""
    assert list(ours.shape) == data[f"{name}.shape"].tolist(), name
    flat = ours.detach().double().flatten().numpy()
    size, mean, std, low, high = data[f"{name}.stats"]
    scale = max(abs(low), abs(high))
    assert flat.size == size
    assert_close(flat[data[f"{name}.idx"]], data[f"{name}.val"], scale)
    assert_close([flat.mean(), flat.std(), flat.min(), flat.max()], [mean, std, low, high], scale)


def filled(module: torch.nn.Module, prefix: str, rename=lambda key: key) -> torch.nn.Module:
    """Fill by the original's names: ``prefix`` and what ``rename`` makes of ours."""
    state = {
        key: torch.from_numpy(np.array(fill(prefix + rename(key), value.shape)))
        for key, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.eval()


# Names


@unit("keys_*.json")
def test_published_names_and_shapes_fill_the_whole_model(path):
    name = path.stem.removeprefix("keys_")
    shapes = published_shapes(FOLDER, name)
    with torch.device("meta"):
        model = build_model(config(name, "MODEL.DEVICE", "meta"))
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    theirs = {checkpoint.rename(key): shape for key, shape in shapes.items()}
    theirs.pop(None)
    assert theirs == ours
    unused = {key for key in shapes if checkpoint.rename(key) is None}
    assert all(".decoder.bbox_embed." in key or ".self_attn.output_proj_box." in key for key in unused)
    assert checkpoint.is_vmt(shapes) and not checkpoint.is_seqformer(shapes)


# Units


@unit("unit_aligned_bilinear*.npz")
def test_aligned_bilinear(path):
    data = read(path)
    x = tensor(data["x"])
    assert_close(double_size(x), data["x2"])
    rows, columns = pixel_centres(x.shape[2], 8), pixel_centres(x.shape[3], 8)
    locations = torch.stack([columns.repeat(len(rows)), rows.repeat_interleave(len(columns))], dim=1)
    assert_close(locations, data["loc_3x4_s8"])


@unit("unit_pos*.npz")
def test_position_codes(path):
    data = read(path)
    mask = tensor(data["mask"])
    dim = data["sine_half_pixel"].shape[1]
    assert_close(centred_position_code(mask, dim), data["sine_half_pixel"])
    height, width = mask.shape[1:]
    assert_close(centred_position_code(torch.zeros_like(mask), dim), data["sine_half_pixel_nomask"])
    assert_close(unpadded_position_code(height, width, dim)[None], data["sine_half_pixel_nomask"])
    _, dim, height, width = data["node_pos"].shape
    assert_close(sine_position_code(height, width, dim)[None], data["node_pos"])


@unit("unit_mask_decoder*.npz")
def test_mask_decoder(path):
    data = read(path)
    x8, x16, x32 = (tensor(data[name]) for name in ("x8", "x16", "x32"))
    decoder = filled(MaskDecoder(x8.shape[1], x8.shape[1] // 4, data["mask_feat"].shape[1]), "mask_head.")
    masks, fused = decoder(x8, x16, x32)
    assert_close(fused, data["fused"])
    assert_close(masks, data["mask_feat"])


@unit("unit_refine_encoder*.npz")
def test_refine_encoder(path):
    data = read(path)
    nodes, positions = (tensor(data[name]).transpose(0, 1) for name in ("nodes", "pos"))
    encoder = filled(RefineEncoder(3, nodes.shape[2], 4, 2048, 0.1), "encoder.")
    assert_close(encoder(nodes, positions).transpose(0, 1), data["out"])
    assert_close(encoder(nodes[:, :1], positions[:, :1]).transpose(0, 1), data["out_single_node"])
    assert encoder(nodes[:, :0], positions[:, :0]).shape == (1, 0, nodes.shape[2])


@unit("unit_select*.npz")
def test_selection_of_detail_pixels(path):
    data = read(path)
    cases = sorted({key.split(".")[0] for key in data if key.endswith(".inc_logits_s4")})
    assert cases
    for case in cases:
        size = tuple(data[f"{case}.hr"].tolist())
        selected = near_contours(tensor(data[f"{case}.inc_logits_s4"])[None], size)[0]
        assert np.array_equal(selected.numpy(), data[f"{case}.selected"].astype(bool)), case
        points = pick_points(selected, 0, "random")
        places = torch.stack([points // size[1], points % size[1]], dim=1)
        assert np.array_equal(places.numpy(), data[f"{case}.points_yx"]), case


@unit("unit_msda_core*.npz")
def test_deformable_sampling(path):
    data = read(path)
    value, locations, weights = (tensor(data[name]).requires_grad_() for name in ("value", "loc", "weights"))
    shapes = [tuple(shape) for shape in data["shapes"].tolist()]
    out = ms_deform_attn(value, shapes, locations, weights)
    assert_close(out, data["out"])
    (out * tensor(data["grad_out"])).sum().backward()
    for name, x in (("grad_value", value), ("grad_loc", locations), ("grad_weights", weights)):
        assert_close(x.grad, data[name])


@unit("unit_msda_clip*.npz")
def test_clip_attention(path):
    data = read(path)
    shapes = [tuple(shape) for shape in data["shapes"].tolist()]
    src = tensor(data["src"])
    num_clips, num_frames = src.shape[:2]
    dim, padding = src.shape[3], tensor(data["pad"]).flatten(0, 1)

    encode = filled(ClipDeformAttn(dim, len(shapes), 4, 4), "unit.encode.")
    references = tensor(data["ref_enc"]).repeat_interleave(num_frames, dim=0)
    query = tensor(data["query"]).flatten(0, 1)
    out = encode(query, references, src.flatten(0, 1), shapes, padding)
    assert_close(out.view(src.shape), data["enc_out"])

    decode = filled(ClipDeformAttn(dim, len(shapes), 4, 4), "unit.decode.")
    first = tensor(data["box_query3"])[:, None].expand(-1, num_frames, -1, -1)
    for name, query, references in (("first", first, "ref2"), ("later", tensor(data["box_query4"]), "ref4")):
        found = decode.sample(
            query.flatten(0, 1), tensor(data[references]).flatten(0, 1), src.flatten(0, 1), shapes, padding
        )
        size = (num_clips, num_frames, -1, dim)
        assert_close(decode.output_proj(found).view(size), data[f"dec_{name}_out"])
        assert_close(decode.output_proj_box(found).view(size), data[f"dec_{name}_box"])


@unit("unit_transformer_small*.npz")
def test_clip_transformer_with_padding(path):
    data = read(path)
    num_levels = len(data["shapes"])
    shapes = [tuple(shape) for shape in data["shapes"].tolist()]
    num_layers, num_clips, num_queries, dim = data["hs"].shape
    num_frames = data["src0"].shape[1]
    layer = {"dim": dim, "dim_feedforward": 64, "num_heads": 4, "num_levels": num_levels, "num_points": 4, "dropout": 0}

    prefix = "unit.tr."
    encoder = filled(ClipEncoder(2, **layer), f"{prefix}encoder.")
    decoder = filled(ClipDecoder(num_layers, **layer), f"{prefix}decoder.")
    level_embed = fill(f"{prefix}level_embed", (num_levels, dim))
    tokens, positions, padding = [], [], []
    for level in range(num_levels):
        tokens.append(tensor(data[f"src{level}"]).flatten(3).transpose(2, 3))
        positions.append(tensor(data[f"pos{level}"]).flatten(3).transpose(2, 3) + tensor(level_embed[level]))
        padding.append(tensor(data[f"mask{level}"]).flatten(2))
    tokens, positions, padding = (torch.cat(x, dim=2).flatten(0, 1) for x in (tokens, positions, padding))
    ratios = tensor(data["valid_ratios"])
    memory = encoder(tokens, positions, shapes, padding, ratios.repeat_interleave(num_frames, dim=0))
    assert_close(memory.view(data["memory"].shape), data["memory"])

    place, start = tensor(data["query_embed"]).chunk(2, dim=1)
    to_points = filled(torch.nn.Linear(dim, 2), f"{prefix}reference_points.")
    references = to_points(place).sigmoid().expand(num_clips, num_frames, -1, -1)
    assert_close(references, data["init_reference"])
    frames = FrameTokens([memory], shapes, padding, ratios)
    outputs = decoder(start.expand(num_clips, -1, -1), place, references, frames)
    assert_close(torch.stack([x.queries for x in outputs]), data["hs"])
    assert_close(torch.stack([x.box_queries for x in outputs]), data["hs_box"])
    assert_close(torch.stack([x.boxes for x in outputs]), data["inter_references"])
    # Frame by frame instead of together: the same.
    apart = decoder(
        start.expand(num_clips, -1, -1), place, references, frames._replace(tokens=list(memory.split(1)))
    )
    assert_close(apart[-1].queries, outputs[-1].queries.detach(), tolerance=1e-6)
