"""Video Mask Transfiner against the released code's numbers: names, units, whole forward passes, results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import root
from vmt_model import as_frames, clip_with_crc, config, drawn_clip, load, published_shapes
from weights import fill

import projects  # noqa: F401  makes detectron2 importable
from projects.vmt import checkpoint
from projects.vmt.detail import box_masks, near_contours, pick_points
from projects.vmt.dynamic import double_size, dynamic_masks, pixel_centres, resize_nearest, split_parameters
from projects.vmt.features import MaskDecoder
from projects.vmt.refiner import RefineEncoder, RefineInputs, ReleaseRefiner
from projects.vmt.results import VideoObjects
from projects.vmt.window import Window
from vis_core.data import NetworkFrames, open_video
from vis_core.modeling.clip_transformer import (
    ClipDecoder,
    ClipDeformAttn,
    ClipEncoder,
    FrameTokens,
    centred_positional_encoding,
    level_map,
    unpadded_positional_encoding,
)
from vis_core.modeling.mask2former.positional_encoding import sine_positional_encoding
from vis_core.modeling.mask_resizing import resized_in_chunks
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
def test_positional_encodings(path):
    data = read(path)
    mask = tensor(data["mask"])
    dim = data["sine_half_pixel"].shape[1]
    assert_close(centred_positional_encoding(mask, dim), data["sine_half_pixel"])
    height, width = mask.shape[1:]
    assert_close(centred_positional_encoding(torch.zeros_like(mask), dim), data["sine_half_pixel_nomask"])
    assert_close(unpadded_positional_encoding(height, width, dim)[None], data["sine_half_pixel_nomask"])
    _, dim, height, width = data["node_pos"].shape
    assert_close(sine_positional_encoding(height, width, dim)[None], data["node_pos"])


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
    num_layers, num_clips, _, dim = data["hs"].shape
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
    apart = decoder(start.expand(num_clips, -1, -1), place, references, frames._replace(tokens=list(memory.split(1))))
    assert_close(apart[-1].queries, outputs[-1].queries.detach(), tolerance=1e-6)


@unit("unit_dynamic_mask*.npz")
def test_dynamic_masks(path):
    data = read(path)
    references = tensor(data["ref_points_xy_px"])
    num_instances = references.shape[1]
    weights = {name: tensor(data[name])[0] for name in ("params", "params_inc", "params_refine")}
    assert [weights["params"].shape[1], weights["params_inc"].shape[1]] == data["num_params"].tolist()

    first = split_parameters(weights["params"], 10, 8)
    assert [x[0].numel() for x in first.weights] == data["weight_nums"].tolist()
    assert [x[0].numel() for x in first.biases] == data["bias_nums"].tolist()
    coarse = dynamic_masks(first, tensor(data["feat8"]), references, 8)
    assert_close(coarse, data["coarse_s8"])
    assert_close(double_size(coarse), data["coarse_up2"])

    shared = tensor(data["feat4"])
    own = resize_nearest(coarse.sigmoid(), shared.shape[-2:])
    second = dynamic_masks(split_parameters(weights["params_inc"], 11, 8), shared, references, 4, own)
    assert_close(second, data["inc_s4"])
    assert_close(double_size(second), data["inc_up2"])

    boxes = tensor(data["boxes_xyxy_s2"]).float()
    size = data["box_mask"].shape[1:]
    assert np.array_equal(box_masks(boxes, size).numpy(), data["box_mask"])
    maps = tensor(data["feat2"])
    refiner = ReleaseRefiner(dim=maps.shape[1])
    for index, branch in enumerate(refiner.fuse):
        filled(branch, f"conv_norm_relus_fuse_all_{index + 1}.")
    inputs = RefineInputs(None, maps, coarse, second, weights["params_refine"], references, 2 * boxes[None])
    own = refiner.own_channels(inputs, size)
    assert_close(own[0, 0, 0], data["inc_prob_s2_inst0"])
    assert_close(own[0, 0, 1], data["coarse_prob_s2_inst0"])
    assert_close(own[0, 0, 3:], data["rel_xy_s2_inst0"])
    refiner.controller = torch.nn.Identity()  # the parameters are given
    refined = refiner.masks(maps, inputs)
    assert refined.shape[1] == num_instances
    assert_close(refined, data["refine_s2"])
    assert_close(double_size(refined), data["refine_up2"])


# Whole models


@pytest.mark.parametrize("path", files("full_*.npz"), ids=stem)
@torch.no_grad()
def test_forward(path):
    data = read(path)
    seed, num_frames, height, width = data["config"].tolist()
    name = next(name for name in ("swin_l", "r101", "r50") if name in path.stem)
    model = load(FOLDER, name, inc_bias=float(data["inc_bias"][0]))
    rgb = as_frames(drawn_clip(seed, num_frames, height, width, int(data["input.crc_u8"][0])))
    encoded = list(model.inference.encoded_frames(model, rgb))

    images = model.preprocess_images(rgb).tensor
    *maps, raw = model.backbone(images)
    for level, x in enumerate(maps):
        assert_sampled(x, data, f"feat{level}")
    if "feat4.shape" in data and raw is not None:
        assert_sampled(raw, data, "feat4")
    for level in (1, 2, 3):
        code = unpadded_positional_encoding(*data[f"pos{level}.shape"][2:].tolist(), 256)
        assert_sampled(code.expand(num_frames, -1, -1, -1), data, f"pos{level}")
    assert_sampled(torch.cat([x.tokens.tokens[0] for x in encoded])[None], data, "memory")

    tokens = FrameTokens([x.tokens.tokens[0] for x in encoded], encoded[0].tokens.shapes)
    layers = model.transformer.decode(tokens, num_frames)
    assert_sampled(torch.stack([x.queries for x in layers]), data, "hs")
    assert_sampled(torch.stack([x.box_queries for x in layers]), data, "hs_box")
    assert_sampled(layers[0].references, data, "init_reference")
    assert_sampled(torch.stack([x.boxes for x in layers]), data, "inter_references")

    clip = model.inference.clip_objects(model, encoded)
    assert np.array_equal(clip.query_ids.numpy(), data["query_ids"])
    assert_close(clip.logits[None], data["pred_logits"])
    boxes = layers[-1].boxes[:, :, clip.query_ids]
    assert_close(boxes, data["pred_boxes"])

    check_first_frame(model, images[:1], encoded[0], clip, data)
    check_masks(model, encoded, clip, data)


def check_first_frame(model, image, frame, clip, data) -> None:
    features = model.mask_features
    maps, tokens = frame.maps.maps, frame.tokens
    x8, x16, x32 = (level_map(tokens, level) for level in range(3))
    coarse, fused = features.mask_head(x8, x16, x32)
    assert_sampled(coarse, data, "frame0.mask_feat8")
    assert_sampled(fused, data, "frame0.mask_fused256")
    stride4 = model.backbone(image)[0]
    x = stride4 + resize_nearest(features.lay_hr1(fused).relu(), stride4.shape[-2:])
    before = features.lay2_h(features.lay1_h(x).relu())
    assert_sampled(before, data, "frame0.mask_feat4_prerelu")
    assert_close(maps.second, before.relu().numpy())

    _, second = model.inference.stages(model, clip, slice(0, 1), maps)
    detail = model.detail(image, frame.maps)
    selected = near_contours(second, detail.shape[-2:])
    assert int(selected.sum()) == data["num_points"][0]
    combined = (resize_nearest(maps.base, detail.shape[-2:]) + selected[:, None] * detail)[0].flatten(1)
    points = pick_points(selected[0], model.refiner.max_points, "strided")
    nodes = combined[:, points].T
    positions = sine_positional_encoding(*detail.shape[-2:], nodes.shape[1]).flatten(1)[:, points].T
    assert_sampled(nodes, data, "frame0.node_feat_rowmajor")
    assert_sampled(positions, data, "frame0.node_pos_rowmajor")
    encoded = model.refiner.encoder(nodes[None], positions[None])[0]
    assert_sampled(encoded, data, "frame0.node_encoded_rowmajor")


def check_masks(model, encoded, clip, data) -> None:
    num_frames = len(encoded)
    found = {}
    for stage, name in (("coarse", "pred_masks"), ("second", "pred_masks_inc"), ("refined", "pred_masks_refine")):
        model.inference.stage = stage
        window = Window(0, encoded, 0, num_frames)
        frames = dict(model.inference.frame_masks(model, clip, window))
        found[name] = torch.stack([frames[t] for t in range(num_frames)], dim=1)[None]  # (1, N, T, h, w)
    coarse = data["pred_masks"]
    limit = TOLERANCE if coarse.dtype == np.float32 else 1e-3  # stored in half precision where large
    assert_close(found["pred_masks"], coarse, tolerance=limit)
    for name in ("pred_masks_inc", "pred_masks_refine"):
        masks = found[name]
        assert_sampled(masks, data, name)
        signs = np.unpackbits(data[f"{name}.sign_packed"])[: masks.numel()].astype(bool)
        assert (signs != (masks > 0).flatten().numpy()).mean() <= 1e-4
        scale = max(abs(x) for x in data[f"{name}.stats"][3:])
        assert_close(masks[0].double().mean(dim=(2, 3)), data[f"{name}.per_query_frame_mean"], scale)
        assert_close(masks[0].double().std(dim=(2, 3), correction=0), data[f"{name}.per_query_frame_std"], scale, 1e-3)
    selected = []
    for t, frame in enumerate(encoded):
        _, second = model.inference.stages(model, clip, slice(t, t + 1), frame.maps.maps)
        selected.append(near_contours(second, tuple(data["boundary.shape"][1:].tolist()))[0])
    boundary = np.unpackbits(data["boundary.packed"])[: np.prod(data["boundary.shape"])].astype(bool)
    assert (torch.stack(selected).flatten().numpy() != boundary).mean() <= 1e-3


# Results


@unit("post_inputs*.npz")
def test_results(path):
    data = read(path)
    expected = json.loads(path.with_name(path.name.replace("inputs", "results").replace(".npz", ".json")).read_text())
    logits, masks = tensor(data["logits"])[0], tensor(data["masks"])[0]
    size = tuple(data["out_size_hw"].tolist())
    objects = VideoObjects()
    ids = objects.add_clip([None] * len(logits), logits, masks.shape[1])
    for t in range(masks.shape[1]):
        for part, enlarged in resized_in_chunks(masks[:, t], size, size, size):
            objects.add_masks(t, ids[part], enlarged > 0)
    tubes = objects.tubes(masks.shape[1], 10, 0.001, num_classes=logits.shape[1], class_offset=0)
    assert [(tube.score, tube.category) for tube in tubes] == [(x["score"], x["category_id"]) for x in expected]
    assert [list(tube.segmentations) for tube in tubes] == [x["segmentations"] for x in expected]


@unit("infer_*.json")
def test_videos_end_to_end(path):
    expected = json.loads(path.read_text())
    name = path.stem.removeprefix("infer_")
    opts = ("INPUT.MIN_SIZE_TEST", str(expected.get("resize", 96)), "MODEL.VMT.NUM_CLASSES", "42")
    opts += ("MODEL.VMT.CLASS_OFFSET", "0")
    biases = {"r50": -30.0, "r101": -60.0, "swin_l": -30.0}
    model = load(FOLDER, name, *opts, inc_bias=biases[name], class_bias=True)
    for video in expected["videos"]:
        frames = clip_with_crc(video["length"], video["height"], video["width"], video["crc"])
        source = open_video(list(frames))
        images = NetworkFrames.from_config(config(name, *opts), source)
        (result,) = model([{"image": images, "height": video["height"], "width": video["width"]}])
        wanted = [x for x in expected["results"] if x["video_id"] == video["id"]]
        assert len(result["tubes"]) == len(wanted)
        for tube, entry in zip(result["tubes"], wanted):
            assert tube.category == entry["category_id"]
            assert abs(tube.score - entry["score"]) <= 1e-4
            for ours, theirs in zip(tube.segmentations, entry["segmentations"], strict=True):
                a, b = decode_mask(ours), decode_mask(theirs)
                assert (a & b).sum() >= 0.999 * (a | b).sum()
