"""Names of the published weights in terms of this model's.

Three families are recognised: the three released VMT models; SeqFormer, the same without the later stages; and
Deformable DETR on single images, whose decoder layers begin both of SeqFormer's branches.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from vis_core.checkpoint import register_converter, rename_resnet

StateDict = dict[str, torch.Tensor]

# Beginnings of names, the longest that fits is used.
_PREFIXES = {
    "detr.backbone.0.body.": "backbone.body.",
    "detr.transformer.decoder.bbox_embed.": None,  # the same tensors as detr.bbox_embed
    "detr.transformer.": "transformer.",
    "detr.bbox_embed.": "transformer.decoder.bbox_embed.",
    "detr.": "transformer.",
    "controller.": "masks.controller.",
    "controller_inc.": "masks.controller_inc.",
    "controller_refine.": "refiner.controller.",
    "encoder.": "refiner.encoder.",
    "mask_head.": "mask_features.mask_head.",
    "lay_hr1.": "mask_features.lay_hr1.",
    "lay1_h.": "mask_features.lay1_h.",
    "lay2_h.": "mask_features.lay2_h.",
    "lay_hr1_c.": "mask_features.lay_hr1_c.",
    "lay_compress.": "mask_features.lay_compress.",
    "conv_norm_relus_fuse_img.": "mask_features.conv_norm_relus_fuse_img.",
    **{f"conv_norm_relus_fuse_all_{i + 1}.": f"refiner.fuse.{i}." for i in range(4)},
}
_BY_LENGTH = sorted(_PREFIXES, key=len, reverse=True)
# A second projection in encoder layers that nothing reads.
_UNUSED = re.compile(r"detr\.transformer\.encoder\.layers\.\d+\.self_attn\.output_proj_box\.|.*\.num_batches_tracked$")

_SEQFORMER = {"detr.transformer.level_embed", "detr.query_embed.weight", "controller.layers.0.weight"}
_DEFORMABLE_DETR = {"transformer.level_embed", "query_embed.weight", "class_embed.0.weight"}
# Parts of a Deformable DETR decoder layer that SeqFormer has twice.
_DOUBLED = re.compile(r"(.*decoder\.layers\.\d+\.(?:cross_attn\.output_proj|self_attn|linear[12]|norm[123]))(\..*)")


def is_vmt(keys: Collection[str]) -> bool:
    """Whether these are the keys of a released VMT."""
    return _SEQFORMER | {"controller_refine.layers.0.weight"} <= set(keys)


def is_seqformer(keys: Collection[str]) -> bool:
    """Whether these are the keys of a SeqFormer."""
    return set(keys) >= _SEQFORMER and not is_vmt(keys)


def is_deformable_detr(keys: Collection[str]) -> bool:
    """Whether these are the keys of a Deformable DETR with box refinement and one stage."""
    return set(keys) >= _DEFORMABLE_DETR and "transformer.reference_points.weight" in keys


def convert(state_dict: StateDict) -> StateDict:
    """Rename all tensors; aliases and what nothing reads are left out.

    A name that no rule fits is passed on unchanged, so that loading reports it.
    """
    return {rename(key): value for key, value in state_dict.items() if rename(key) is not None}


def convert_deformable_detr(state_dict: StateDict) -> StateDict:
    """The same for Deformable DETR; both branches of a decoder layer begin with its one."""
    out: StateDict = {}
    for key, value in state_dict.items():
        out[f"detr.{key}"] = value
        doubled = _DOUBLED.fullmatch(key)
        if doubled:
            out[f"detr.{doubled[1]}_box{doubled[2]}"] = value
    return convert(out)


def rename(key: str) -> str | None:
    """This model's name for one published name; None if it has none and needs none."""
    if _UNUSED.match(key):
        return None
    for prefix in _BY_LENGTH:
        if key.startswith(prefix):
            ours, rest = _PREFIXES[prefix], key.removeprefix(prefix)
            if ours == "backbone.body.":
                rest = rename_resnet(rest)  # Swin keeps its names
            return None if ours is None else ours + rest
    return key


register_converter("VMT", is_vmt, convert)
register_converter("SeqFormer", is_seqformer, convert)
register_converter("Deformable DETR", is_deformable_detr, convert_deformable_detr)
