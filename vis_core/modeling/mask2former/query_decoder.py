"""The query decoder of Mask2Former (arXiv 2112.01527, section 3.2): every query is a class and a mask, and looks only
where its own last mask is.

Shapes: B images, Q queries, C channels, K classes, L maps, (h, w) size of a map, (H, W) size of the map for masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from fvcore.common.registry import Registry
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.attention import MLP
from vis_core.modeling.mask2former.attention import CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer
from vis_core.modeling.mask2former.positional_encoding import sine_positional_encoding

QUERY_DECODER_REGISTRY = Registry("QUERY_DECODER")
QUERY_DECODER_REGISTRY.__doc__ = "Query decoders by ``MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME``, called with (cfg)."


@QUERY_DECODER_REGISTRY.register()
class MultiScaleMaskedTransformerDecoder(nn.Module):
    """Layers of masked cross-attention, self-attention and feed-forward network, which take the L maps in turn."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        num_queries: int = 100,
        dim: int = 256,
        num_heads: int = 8,
        dim_feedforward: int = 2048,
        num_layers: int = 9,
        num_levels: int = 3,
    ) -> None:
        """
        Args:
            num_classes: K, without "no object".
            dim: C, of all inputs.
            num_levels: L.
        """
        super().__init__()
        self.num_levels = num_levels
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(dim, num_heads) for _ in range(num_layers)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(dim, num_heads) for _ in range(num_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForwardLayer(dim, dim_feedforward) for _ in range(num_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = MLP(dim, dim, dim, 3)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.MASK_FORMER
        return {
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "num_queries": node.NUM_OBJECT_QUERIES,
            "dim": node.HIDDEN_DIM,
            "num_heads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "num_layers": node.DEC_LAYERS - 1,  # the published key counts predictions, and the first has no layer
            "num_levels": len(cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES) - 1,
        }

    def forward(
        self, maps: Sequence[torch.Tensor], mask_features: torch.Tensor, with_aux: bool | None = None
    ) -> dict[str, torch.Tensor | list[dict[str, torch.Tensor]]]:
        """Predict.

        Args:
            maps: L x (B, C, h, w), as the layers take them.
            mask_features: (B, C, H, W).
            with_aux: predict before every layer too, as training needs (default: in training). Without, masks before
                the end are computed only at the sizes at which they steer the attention; the results are the same up
                to rounding.

        Returns:
            ``pred_logits`` (B, Q, K + 1), the last "no object"; ``pred_masks`` (B, Q, H, W) logits; ``pred_queries``
            (B, Q, C), what both were computed from; with_aux: ``aux_outputs``, list of dicts with the first two.
        """
        with_aux = self.training if with_aux is None else with_aux
        sizes = [x.shape[-2:] for x in maps]
        values = [x.flatten(2).transpose(1, 2) + level for x, level in zip(maps, self.level_embed.weight)]
        keys = [x + self._positional_encoding(size, x) for x, size in zip(values, sizes)]  # L x (B, hw, C)
        steering = None
        if not with_aux:
            steering = [_shrink(mask_features, size) for size in sizes[: len(self.transformer_ffn_layers)]]

        positions = self.query_embed.weight[None]  # (1, Q, C)
        queries = self.query_feat.weight.expand(len(mask_features), -1, -1)  # (B, Q, C)
        aux_outputs = []
        for index, feed_forward in enumerate(self.transformer_ffn_layers):
            level = index % self.num_levels
            if with_aux:
                aux_outputs.append(self.predict(queries, mask_features))
                logits = _resize(aux_outputs[-1]["pred_masks"].detach(), sizes[level])
            else:
                logits = self.masks(self.decoder_norm(queries), steering[level])
            queries = self.transformer_cross_attention_layers[index](
                queries, positions, keys[level], values[level], allowed_tokens(logits)
            )
            queries = self.transformer_self_attention_layers[index](queries, positions)
            queries = feed_forward(queries)
        outputs = self.predict(queries, mask_features)
        outputs["pred_queries"] = self.decoder_norm(queries)
        if with_aux:
            outputs["aux_outputs"] = aux_outputs
        return outputs

    def predict(self, queries: torch.Tensor, mask_features: torch.Tensor) -> dict[str, torch.Tensor]:
        """``pred_logits`` (B, Q, K + 1) and ``pred_masks`` (B, Q, H, W) of a layer's output (B, Q, C)."""
        normed = self.decoder_norm(queries)
        return {"pred_logits": self.class_embed(normed), "pred_masks": self.masks(normed, mask_features)}

    def masks(self, normed: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """Mask logits (B, Q, H, W) of normalised queries (B, Q, C)."""
        return torch.einsum("bqc,bchw->bqhw", self.mask_embed(normed), mask_features)

    def _positional_encoding(self, size: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        return sine_positional_encoding(*size, like.shape[-1], like.device).flatten(1).T  # (hw, C)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # What the first released checkpoints call it.
        old, new = f"{prefix}static_query.weight", f"{prefix}query_feat.weight"
        if old in state_dict:
            state_dict[new] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *args)


@torch.no_grad()
def allowed_tokens(mask_logits: torch.Tensor) -> torch.Tensor:
    """Tokens that each query may attend to: those inside its mask, or all of them if there is none.

    Args:
        mask_logits: (B, Q, h, w).

    Returns:
        (B, Q, hw) bool.
    """
    allowed = mask_logits.flatten(2).sigmoid() >= 0.5
    return allowed | ~allowed.any(dim=-1, keepdim=True)


def _resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _shrink(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """:func:`_resize` by reading only what counts: at an even factor, the mean of the four pixels in the middle."""
    steps = [before // after for before, after in zip(x.shape[-2:], size)]
    if any(step % 2 or step * after != before for step, after, before in zip(steps, size, x.shape[-2:])):
        return _resize(x, size)
    down, across = steps
    rows = x[..., down // 2 - 1 :: down, :] + x[..., down // 2 :: down, :]
    return (rows[..., across // 2 - 1 :: across] + rows[..., across // 2 :: across]) / 4
