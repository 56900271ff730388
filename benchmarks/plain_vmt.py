"""VMT computed the way the released code does it: what ours is measured against, with the same weights.

The whole clip at once; every frame's feature maps and position maps are kept, those of stride 2 and 4 that nothing
reads included; attention loops over frames and returns its weights; the last stage's four branches each convolve all 69
channels of every instance; masks of all stages, frames and instances exist together, and are thresholded in the end.

Shapes: T frames, N instances, C channels, S tokens, (H, W) frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from grid_sample_msda import grid_sample_msda
from torch.nn import functional as F

from projects.vmt.detail import box_masks, near_contours
from projects.vmt.dynamic import double_size, pixel_centres, split_parameters
from projects.vmt.mask_head import pixel_references
from projects.vmt.results import VideoObjects

DIM = 256


@torch.no_grad()
def plain_predict(model, video: dict):
    """Tubes of one video, as ``model([video])`` gives them."""
    logits, masks = plain_clip(model, model.preprocess_images(list(video["image"])).tensor)[:2]
    size, num_frames = (video["height"], video["width"]), masks["refined"].shape[1]
    inside = [F.interpolate(x[:, None], size=size, mode="bilinear")[:, 0].sigmoid() > 0.5 for x in masks["refined"]]
    objects = VideoObjects()
    ids = objects.add_clip([None] * len(logits), logits, num_frames)
    for t in range(num_frames):
        objects.add_masks(t, ids, torch.stack([x[t] for x in inside]))
    inference = model.inference
    return objects.tubes(
        num_frames, inference.num_outputs, inference.min_score, inference.num_classes, inference.class_offset
    )


@torch.no_grad()
def plain_clip(model, images: torch.Tensor):
    """Class logits (N, K), mask logits (N, T, h, w) by stage, detail pixels per frame, for images (T, 3, H, W)."""
    maps = model.backbone(images)
    *maps, raw = maps
    sources = [projection(x) for projection, x in zip(model.transformer.input_proj, [*maps[1:], maps[-1]])]
    padding = [torch.zeros(len(images), *x.shape[-2:], dtype=torch.bool) for x in sources]
    codes = [_position_map(mask) for mask in padding]
    unread = [_position_map(torch.zeros(len(images), *x.shape[-2:], dtype=torch.bool)) for x in (maps[0], raw)]

    shapes = [tuple(x.shape[-2:]) for x in sources]
    tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in sources], dim=1)  # (T, S, C)
    embed = model.transformer.level_embed
    positions = torch.cat([c.flatten(2).transpose(1, 2) + own for c, own in zip(codes, embed)], dim=1)
    hidden = torch.cat([mask.flatten(1) for mask in padding], dim=1)
    memory = _encode(model.transformer.encoder, tokens, positions, shapes, hidden)
    layer = _decode(model.transformer, memory, shapes, hidden)
    logits = model.transformer.class_embed[-1](layer["queries"])
    best = logits.sigmoid().flatten().topk(model.inference.num_instances).indices
    chosen = (best // logits.shape[1]).unique()
    masks, num_points = _masks(model, images, memory, shapes, maps[0], raw, layer, chosen)
    del unread  # alive until here, as in the release
    return logits[chosen], masks, num_points


def _position_map(padding: torch.Tensor) -> torch.Tensor:
    valid = ~padding
    rows, columns = valid.cumsum(1, dtype=torch.float32), valid.cumsum(2, dtype=torch.float32)
    rows = (rows - 0.5) / (rows[:, -1:] + 1e-6) * (2 * math.pi)
    columns = (columns - 0.5) / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
    return _sines(rows, columns, DIM // 2)


def _sines(rows: torch.Tensor, columns: torch.Tensor, half: int) -> torch.Tensor:
    index = torch.arange(half, dtype=torch.float32)
    frequencies = 10000 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    parts = []
    for place in (rows, columns):
        phases = place[..., None] / frequencies
        parts.append(torch.stack((phases[..., 0::2].sin(), phases[..., 1::2].cos()), dim=4).flatten(3))
    return torch.cat(parts, dim=3).permute(0, 3, 1, 2)


def _sample(attention, query, references, source, shapes, hidden) -> torch.Tensor:
    """One frame: (1, Q, C)."""
    value = attention.value_proj(source).masked_fill(hidden[..., None], 0.0)
    value = value.unflatten(2, (attention.num_heads, -1))
    samples = (1, query.shape[1], attention.num_heads, attention.num_levels, attention.num_points)
    offsets = attention.sampling_offsets(query).view(*samples, 2)
    weights = attention.attention_weights(query).view(*samples[:3], -1).softmax(-1).view(samples)
    if references.shape[-1] == 2:
        sizes = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float32)
        locations = references[:, :, None, :, None, :] + offsets / sizes[None, None, None, :, None, :]
    else:
        boxes = references[:, :, None, :, None]
        locations = boxes[..., :2] + offsets / attention.num_points * boxes[..., 2:] * 0.5
    return grid_sample_msda(value, shapes, locations, weights)


def _encode(encoder, tokens, positions, shapes, hidden) -> torch.Tensor:
    grids = []
    for height, width in shapes:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        grids.append(torch.stack((x, y), -1).view(1, -1, 2))
    references = torch.cat(grids, dim=1)[:, :, None].repeat(1, 1, len(shapes), 1)
    for layer in encoder.layers:
        found = [
            layer.self_attn.output_proj(
                _sample(layer.self_attn, x[None] + p[None], references, x[None], shapes, m[None])
            )
            for x, p, m in zip(tokens, positions, hidden)
        ]
        tokens = layer.norm1(tokens + torch.cat(found))
        tokens = layer.norm2(tokens + layer.linear2(F.relu(layer.linear1(tokens))))
    return tokens


def _self_attention(attention, query, key, value) -> torch.Tensor:
    """(L, B, C) each; the averaged weights are computed, and dropped by the caller."""
    out, _ = F.multi_head_attention_forward(
        query,
        key,
        value,
        embed_dim_to_check=query.shape[2],
        num_heads=attention.num_heads,
        in_proj_weight=attention.in_proj_weight,
        in_proj_bias=attention.in_proj_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.out_proj.weight,
        out_proj_bias=attention.out_proj.bias,
        training=False,
        need_weights=True,
    )
    return out


def _decode(transformer, memory, shapes, hidden) -> dict[str, torch.Tensor]:
    position, start = transformer.query_embed.weight.chunk(2, dim=1)
    num_frames = len(memory)
    references = transformer.reference_points(position).sigmoid().repeat(num_frames, 1, 1)
    queries, boxes = start, start.repeat(num_frames, 1, 1)
    for layer, head in zip(transformer.decoder.layers, transformer.decoder.bbox_embed):
        placed = (queries + position)[:, None]
        queries = layer.norm2(queries + _self_attention(layer.self_attn, placed, placed, queries[:, None])[:, 0])
        placed = (boxes + position).transpose(0, 1)
        attended = _self_attention(layer.self_attn_box, placed, placed, boxes.transpose(0, 1))
        boxes = layer.norm2_box(boxes + attended.transpose(0, 1))
        found = torch.cat(
            [
                _sample(
                    layer.cross_attn,
                    (b + position)[None],
                    r[None, :, None].repeat(1, 1, len(shapes), 1),
                    m[None],
                    shapes,
                    h[None],
                )
                for b, r, m, h in zip(boxes, references, memory, hidden)
            ]
        )
        boxes = layer.norm1_box(boxes + layer.cross_attn.output_proj_box(found))
        boxes = layer.norm3_box(boxes + layer.linear2_box(F.relu(layer.linear1_box(boxes))))
        weights = layer.time_attention_weights(boxes).softmax(0)
        queries = layer.norm1(queries + (weights * layer.cross_attn.output_proj(found)).sum(0))
        queries = layer.norm3(queries + layer.linear2(F.relu(layer.linear1(queries))))
        before, deltas = references, head(boxes)
        clamped = before.clamp(0, 1)
        logits = (clamped.clamp(min=1e-5) / (1 - clamped).clamp(min=1e-5)).log()
        if before.shape[-1] == 2:
            references = torch.cat((deltas[..., :2] + logits, deltas[..., 2:]), dim=-1).sigmoid()
        else:
            references = (deltas + logits).sigmoid()
    return {"queries": queries, "references": before, "boxes": references}


def _masks(model, images, memory, shapes, stride4, raw, layer, chosen):
    size = tuple(images.shape[-2:])
    queries, references = layer["queries"][chosen], pixel_references(layer["references"][:, chosen], size)
    centres, sides = layer["boxes"][:, chosen].split(2, dim=-1)
    boxes = torch.cat((centres - sides / 2, centres + sides / 2), dim=-1) * torch.tensor([size[1], size[0]] * 2)
    refiner, head = model.refiner, model.masks
    parameters = (
        split_parameters(head.controller(queries), 10, 8),
        split_parameters(head.controller_inc(queries), 11, 8),
        split_parameters(refiner.controller(queries), 11, 8),
    )
    out: dict[str, list] = {"coarse": [], "second": [], "refined": []}
    num_points = []
    sizes = [h * w for h, w in shapes]
    for t in range(len(images)):
        levels = memory[t : t + 1].split(sizes, dim=1)
        x8, x16, x32 = (x.transpose(1, 2).unflatten(2, s) for x, s in zip(levels[:3], shapes[:3]))
        a, c, maps, selected = _first_stages(
            model, images[t : t + 1], (x8, x16, x32), stride4[t], raw[t], parameters, references[t]
        )
        num_points.append(int(selected.sum()))
        maps = _correct(refiner, maps, selected)
        e = _last_stage(refiner, maps, a, c, boxes[t], references[t], parameters[2])
        for name, x in (("coarse", a), ("second", c), ("refined", e)):
            out[name].append(double_size(x)[0])
    return {name: torch.stack(x, dim=1) for name, x in out.items()}, num_points


def _ways(references, size, stride) -> torch.Tensor:
    """(N, 2, h, w)."""
    y, x = torch.meshgrid(pixel_centres(size[0], stride), pixel_centres(size[1], stride), indexing="ij")
    return references[:, :, None, None] - torch.stack((x, y))[None]


def _dynamic(weights, features: torch.Tensor) -> torch.Tensor:
    """Grouped convolutions: features (N, in, h, w) -> (1, N, h, w)."""
    num = len(features)
    x = features.reshape(1, -1, *features.shape[-2:])
    for index, (w, b) in enumerate(zip(*weights)):
        x = F.conv2d(x, w.reshape(-1, w.shape[2], 1, 1), b.reshape(-1), groups=num)
        x = F.relu(x) if index < 2 else x
    return x


def _first_stages(model, image, levels, stride4, raw, parameters, references):
    features = model.mask_features
    x8, x16, x32 = levels
    decoder = features.mask_head
    x = F.relu(decoder.lay3(x32))
    x = F.relu(decoder.lay4(x16 + F.interpolate(x, size=x16.shape[-2:])))
    fused = x8 + F.interpolate(x, size=x8.shape[-2:])
    m8 = F.relu(decoder.lay2(F.relu(decoder.lay1(F.relu(decoder.dcn(fused))))))
    n = len(references)
    a = _dynamic(parameters[0], torch.cat((_ways(references, m8.shape[-2:], 8), m8.repeat(n, 1, 1, 1)), dim=1))

    x = stride4[None] + F.interpolate(F.relu(features.lay_hr1(fused)), size=stride4.shape[-2:])
    x = F.relu(features.lay1_h(x))
    m4 = F.relu(features.lay2_h(x))
    own = F.interpolate(a.sigmoid(), size=m4.shape[-2:]).transpose(0, 1)
    inputs = torch.cat((_ways(references, m4.shape[-2:], 4), own, m4.repeat(n, 1, 1, 1)), dim=1)
    c = _dynamic(parameters[1], inputs)

    size = raw.shape[-2:]
    selected = near_contours(c, size)
    base = F.interpolate(F.relu(features.lay_hr1_c(x)), size=size)
    detail = raw[None] + features.conv_norm_relus_fuse_img(F.interpolate(image, size=size))
    return a, c, base + selected[:, None] * detail, selected


def _correct(refiner, maps, selected) -> torch.Tensor:
    height, width = selected.shape[-2:]
    points = selected.flatten().nonzero()[:, 0]
    points = points[torch.randperm(len(points))[: refiner.max_points]]
    rows = torch.arange(1, height + 1, dtype=torch.float32)[None, :, None].expand(1, height, width)
    columns = torch.arange(1, width + 1, dtype=torch.float32)[None, None].expand(1, height, width)
    codes = _sines(rows / (height + 1e-6) * (2 * math.pi), columns / (width + 1e-6) * (2 * math.pi), maps.shape[1] // 2)
    x = maps.flatten(2)[:, :, points].permute(2, 0, 1)  # (P, 1, C)
    position = codes.flatten(2)[:, :, points].permute(2, 0, 1)
    for layer in refiner.encoder.layers:
        placed = x + position
        x = layer.norm1(x + _self_attention(layer.self_attn, placed, placed, x))
        x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
    maps = maps.flatten(2).clone()
    maps[:, :, points] += x.permute(1, 2, 0)
    return maps.unflatten(2, (height, width))


def _last_stage(refiner, maps, a, c, boxes, references, weights) -> torch.Tensor:
    size, n = maps.shape[-2:], len(references)
    own = torch.stack(
        (
            F.interpolate(c.sigmoid(), size=size)[0],
            F.interpolate(a.sigmoid(), size=size)[0],
            box_masks(boxes / 2, size),
        ),
        dim=1,
    )
    inputs = torch.cat((maps.repeat(n, 1, 1, 1), own, _ways(references, size, 2)), dim=1)  # (N, 69, h2, w2)
    return _dynamic(weights, sum(branch(inputs) for branch in refiner.fuse))


def greatest_difference(ours: Sequence[torch.Tensor], plain: Sequence[torch.Tensor]) -> float:
    """Of pairs of tensors, relative to the greatest value of each."""
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in zip(ours, plain))
