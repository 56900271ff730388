"""VMT (Ke et al., "Video Mask Transfiner for High-Quality Video Instance Segmentation", ECCV 2022, arXiv 2207.14012).

SeqFormer's detector over a clip, masks by convolutions that each object's query brings along, and two finer mask
stages, the last of which corrects pixels near contours with a small transformer.

What runs, in training and testing alike:

1. :meth:`VMT.encode` turns frames into tokens (``FrameTokens``) and maps for the mask stages (:class:`FrameMaps`).
   Frames do not see each other here.
2. ``transformer.decode`` (vis_core/modeling/clip_transformer) turns the tokens of B clips into objects: a list, one
   ``DecoderLayerOutput`` a layer, with video queries (B, Q, C), references (B, T, Q, 2 or 4) that the layer began with,
   and boxes (B, T, Q, 4) as centre, width, height in shares of the frame. ``transformer.logits(layer, queries)`` gives
   class logits (B, Q, K).
3. For chosen queries of one clip, ``masks`` (:class:`projects.vmt.mask_head.MaskHead`): ``coarse(...)``, then
   ``second(...)``, logits of stride 8 and 4 (``double_size`` enlarges them to 4 and 2).
4. ``refiner`` (refiner.py, or quadtree.py): from a ``RefineInputs`` to masks at full resolution, a ``RefineOutput``.

Training: ``learner(model, clips)`` (training.py) gives the losses of clips whose frames it pads with
``preprocess_images(frames, size_divisibility)``, and encodes with their padding.

Shapes: B clips, T frames, Q queries, N chosen queries, K logits, C channels of a query, (H, W) the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import ImageList
from torch import nn

from projects.vmt.backbone import FrameBackbone
from projects.vmt.config import check_settings
from projects.vmt.features import MaskFeatures, MaskMaps
from projects.vmt.inference import VideoInference
from projects.vmt.mask_head import MaskHead
from projects.vmt.quadtree import QuadtreeRefiner
from projects.vmt.refiner import ReleaseRefiner
from projects.vmt.training import ClipLearner
from vis_core.errors import ConfigError
from vis_core.modeling.clip_transformer import ClipTransformer, FrameTokens, level_map
from vis_core.tube import Tube

# MODEL.VMT.REFINER -> module, built from the config. It takes a RefineInputs of some frames of a clip and returns a
# RefineOutput; its attribute ``num_frames`` says how many frames it wants to see together at test time, ``loss_names``
# which losses it has of its own.
REFINERS = {"release": ReleaseRefiner, "quadtree": QuadtreeRefiner}


class FrameMaps(NamedTuple):
    """What the mask stages read of N frames.

    Attributes:
        maps: see :class:`projects.vmt.features.MaskMaps`.
        stem: what :meth:`VMT.detail` needs beside the images: (N, 64, h, w), or None where it is computed anew.
        size: (H, W) of the network's input.
    """

    maps: MaskMaps
    stem: torch.Tensor | None
    size: tuple[int, int]

    def frames(self, part: slice) -> FrameMaps:
        """Those of some frames."""
        return FrameMaps(self.maps.frames(part), None if self.stem is None else self.stem[part], self.size)


@META_ARCH_REGISTRY.register()
class VMT(nn.Module):
    """Video Mask Transfiner."""

    @configurable
    def __init__(
        self,
        *,
        backbone: FrameBackbone,
        transformer: ClipTransformer,
        mask_features: MaskFeatures,
        masks: MaskHead,
        refiner: nn.Module,
        learner: ClipLearner,
        inference: VideoInference,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        detach_backbone: bool = True,
        size_divisibility: int = 32,
    ) -> None:
        """
        Args:
            backbone, transformer, mask_features, masks, refiner: the network, from below.
            learner: computes the losses of clips.
            inference: runs the network over a video.
            pixel_mean, pixel_std: of the channels, in ``INPUT.FORMAT``.
            detach_backbone: no gradient from the mask stages into the backbone's maps of stride 2 and 4.
            size_divisibility: training frames are padded to a multiple of this; test frames never.
        """
        super().__init__()
        self.backbone = backbone
        self.transformer = transformer
        self.mask_features = mask_features
        self.masks = masks
        self.refiner = refiner
        self.learner = learner
        self.inference = inference
        self.detach_backbone = detach_backbone
        self.size_divisibility = size_divisibility
        if learner.refiner_only:
            for part in self._before_refiner():
                part.requires_grad_(False)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT
        check_settings(node)
        backbone = FrameBackbone(build_backbone(cfg))
        return {
            "backbone": backbone,
            "transformer": ClipTransformer(
                in_channels=backbone.channels[1:],
                num_logits=node.NUM_LOGITS,
                num_queries=node.NUM_QUERIES,
                dim=node.HIDDEN_DIM,
                num_heads=node.NHEADS,
                dim_feedforward=node.DIM_FEEDFORWARD,
                num_encoder_layers=node.ENC_LAYERS,
                num_decoder_layers=node.DEC_LAYERS,
                num_levels=node.NUM_FEATURE_LEVELS,
                num_points=node.NUM_POINTS,
                dropout=node.DROPOUT,
            ),
            "mask_features": MaskFeatures(
                dim=node.HIDDEN_DIM,
                stride4_dim=backbone.channels[0],
                stem_dim=backbone.stem_dim,
                mask_dim=node.MASK_DIM,
                refine_dim=node.REFINE_DIM,
            ),
            "masks": MaskHead(query_dim=node.HIDDEN_DIM, mask_dim=node.MASK_DIM, dynamic_dim=node.DYNAMIC_DIM),
            "refiner": build_refiner(cfg),
            "learner": ClipLearner(cfg),
            "inference": VideoInference(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "detach_backbone": node.DETACH_BACKBONE,
        }

    def train(self, mode: bool = True) -> VMT:
        """As of any module; but parts that are not to be trained stay as they are in testing, their norms included."""
        super().train(mode)
        if self.learner.refiner_only:
            for part in self._before_refiner():
                part.eval()
        return self

    def _before_refiner(self) -> tuple[nn.Module, ...]:
        return (self.backbone, self.transformer, self.mask_features, self.masks)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses of B clips in training, ``[{"tubes": list[Tube]}]`` of videos otherwise.

        A clip has ``image`` (frames (3, h, w) uint8) and ``instances`` (with gt_boxes, gt_classes, gt_masks and gt_ids,
        -1 = not in this frame, row i of every frame the same object); a video has ``image`` (any iterable of frames)
        and its own ``height`` and ``width``.
        """
        if self.training:
            return self.losses(batched_inputs)
        return [{"tubes": self.predict(video)} for video in batched_inputs]

    def losses(self, clips: list[dict]) -> dict[str, torch.Tensor]:
        """Weighted losses; their sum is to be minimised."""
        return self.learner(self, clips)

    @torch.no_grad()
    def predict(self, video: dict) -> list[Tube]:
        """Tubes of one video. Frames are read once, in order."""
        return self.inference(self, video)

    def preprocess_images(self, images: Sequence[torch.Tensor], size_divisibility: int = 1) -> ImageList:
        """Normalise images (3, h, w), and pad them with zeros to one size, (N, 3, H, W)."""
        normalised = [(image.to(self.device) - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalised, size_divisibility)

    def encode(
        self, images: torch.Tensor, padding: torch.Tensor | None = None, num_frames: int = 1
    ) -> tuple[FrameTokens, FrameMaps]:
        """Everything about N frames that does not depend on other frames.

        Args:
            images: (N, 3, H, W) normalised.
            padding: (N, H, W) bool, True where an image is padded; None if none is.
            num_frames: T; the first of every T frames says for all of them how much is padding.
        """
        stride4, *deeper, stem = self.backbone(images)
        tokens = self.transformer.encode(deeper, padding, num_frames)
        if self.detach_backbone:
            stride4, stem = stride4.detach(), None if stem is None else stem.detach()
        x8, x16, x32 = (level_map(tokens, level) for level in range(3))
        maps = self.mask_features(x8, x16, x32, stride4)
        stem = self.mask_features.compress(stride4 if stem is None else stem)
        return tokens, FrameMaps(maps, stem, tuple(images.shape[-2:]))

    def detail(self, images: torch.Tensor, frames: FrameMaps) -> torch.Tensor:
        """What refined pixels get on top of the base map, (N, 64, h2, w2); images (N, 3, H, W) of ``frames``."""
        stem = frames.stem
        if stem is None:
            stem = self.mask_features.compress(self.backbone.stem_map(images))
        return self.mask_features.detail(images, stem)


def build_refiner(cfg: CfgNode) -> nn.Module:
    """The module of MODEL.VMT.REFINER. Raises ConfigError for an unknown name."""
    name = cfg.MODEL.VMT.REFINER
    if name not in REFINERS:
        raise ConfigError(f"MODEL.VMT.REFINER: '{name}' is not one of {', '.join(REFINERS)}")
    return REFINERS[name](cfg)
