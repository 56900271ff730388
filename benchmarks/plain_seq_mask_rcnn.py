"""Propose-Reduce the way the released code runs it: what ours is measured against, with the same network.

All frames' features are computed first and kept; each key frame is then carried through the video by itself, which
computes every frame's query and skip branches anew; the memory is one growing tensor, read through the full affinity
matrix; the last frame of a direction is memorised although nobody reads it; category-aware reduction computes the
overlaps of all pairs for every class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from projects.seq_mask_rcnn.inference import Proposals
from projects.seq_mask_rcnn.model import SeqMaskRCNN
from projects.seq_mask_rcnn.propagation import PropagationHead, ResBlock, soft_aggregate
from projects.seq_mask_rcnn.propose import key_frames
from projects.seq_mask_rcnn.reduce import seq_soft_nms
from projects.seq_mask_rcnn.score import classify, mask_boxes
from vis_core.tube import encode_masks


def res_block(block: ResBlock, x: torch.Tensor) -> torch.Tensor:
    shortcut = x if block.downsample is None else block.downsample(x)
    return shortcut + block.conv2(F.relu(block.conv1(F.relu(x))))


def refine(module, stage: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    skip = res_block(module.ResFS, module.convFS(stage))
    return res_block(module.ResMM, skip + F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))


def memorise(head: PropagationHead, p2: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (N, D, 1, g, v) and values (N, E, 1, g, v)."""
    height, width = p2.shape[-2:]
    masks = F.pad(masks[:, None], (0, 4 * width - masks.shape[-1], 0, 4 * height - masks.shape[-2]))
    masks = F.interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)
    x = p2.expand(len(masks), -1, -1, -1) + head.enc_pos(masks)
    for block in head.enc_fuse:
        x = res_block(block, x)
    return head.atn_key(x)[:, :, None], head.atn_value(x)[:, :, None]


def segment(head: PropagationHead, maps: dict, memory: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Soft masks (N, H, W) from one frame's maps and keys and values (N, D or E, M, g, v)."""
    x = maps["p2"]
    for block in head.qry_fuse:
        x = res_block(block, x)
    query_key, query_value = head.qry_atn_key(x), head.qry_atn_value(x)
    keys, values = (m.flatten(2) for m in memory)  # (N, D or E, M * S)
    queries = query_key.expand(len(keys), -1, -1, -1).flatten(2)
    affinity = torch.bmm(keys.transpose(1, 2), queries) / keys.shape[1] ** 0.5  # (N, M * S, S)
    read = torch.bmm(values, affinity.softmax(dim=1)).unflatten(2, query_key.shape[-2:])
    x = torch.cat([read, query_value.expand(len(read), -1, -1, -1)], dim=1)
    x = res_block(head.ResMM, head.convFM(x))
    x = refine(head.RF3, maps["res3"], x)
    x = refine(head.RF2, maps["res2"], x)
    logits = F.interpolate(head.pred2(F.relu(x)), scale_factor=4, mode="bilinear", align_corners=False)
    return soft_aggregate(logits.softmax(dim=1)[:, 1])[1][1:]


@torch.no_grad()
def plain_proposals(model: SeqMaskRCNN, images, propose: Callable) -> Proposals:
    """As ``Proposer(model, images).run()``. ``propose(model, maps, images)``: masks of a key frame's objects."""
    settings, head = model.settings, model.prop_head
    inputs = [model.preprocess_image([{"image": image}]) for image in images]
    features = [model.features(x.tensor) for x in inputs]
    masks, scores, keys_of = [], [], []
    for key in key_frames(len(features), settings.KEY_NUM):
        found = propose(model, features[key], inputs[key])
        if len(found) == 0:
            continue
        start = memorise(head, features[key]["p2"], found.to(features[key]["p2"].dtype))
        soft = {key: segment(head, features[key], start)}
        for frames in (range(key + 1, len(features)), range(key - 1, -1, -1)):
            memory = start
            for t in frames:
                soft[t] = segment(head, features[t], memory)
                if abs(t - key) % settings.MEM_STEP == 0:
                    entry = memorise(head, features[t]["p2"], soft[t])
                    memory = tuple(torch.cat([old, new], dim=2) for old, new in zip(memory, entry))
        tubes = torch.stack([soft[t] for t in range(len(features))], dim=1) >= 0.5  # (N, T, H, W)
        sums = torch.zeros(len(found), model.roi_heads.num_classes)
        counts = torch.zeros(len(found), 1)
        for t in range(len(features)):
            boxes, present = mask_boxes(tubes[:, t])
            sums += classify(model.roi_heads, features[t], boxes)[:, :-1] * present[:, None]
            counts += present[:, None]
        masks += [encode_masks(tube) for tube in tubes]
        scores.append(sums / counts.clamp(min=1))
        keys_of += [key] * len(found)
    return Proposals(masks, torch.cat(scores), keys_of, inputs[0].image_sizes[0])


def plain_category_aware(scores: np.ndarray, iou: Callable[[], np.ndarray], settings) -> np.ndarray:
    """As ``category_aware``; ``iou()`` computes the overlaps of all pairs."""
    out = np.full(scores.shape, -1.0)
    for label in range(scores.shape[1]):
        chosen, values = seq_soft_nms(scores[:, label], iou(), settings.SIGMA, settings.SCORE_THRESH, settings.MAX_SEQ)
        out[chosen, label] = values
    return out
