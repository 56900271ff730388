"""Seq Mask R-CNN (Lin et al., "Video Instance Segmentation with a Propose-Reduce Paradigm", ICCV 2021).

Mask R-CNN detects on key frames, a propagation head carries every detection through the whole video in both
directions, the detector's box head classifies the sequences so made, and NMS over sequences reduces them.

The parts, each a file: this one holds the network (detector and propagation head over one backbone); propagation.py
the head, used as ``memorise -> as_entry -> read_memory -> decode -> soft_aggregate``; propose.py, score.py and
reduce.py the steps of inference as functions, inference.py their order; training.py the losses of a pair of frames.

Shapes: B clips or videos, (h, w) the network's input size, (H, W) the video's own size, N objects.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from torch.nn import functional as F

from projects.seq_mask_rcnn.config import check_settings
from projects.seq_mask_rcnn.inference import Proposals, Proposer
from projects.seq_mask_rcnn.propagation import PropagationHead
from projects.seq_mask_rcnn.reduce import reduce_sequences, sequence_iou
from projects.seq_mask_rcnn.training import losses
from vis_core.modeling import freeze_bn_statistics
from vis_core.tube import RLE, Tube, decode_mask, encode_masks

STAGES = ("res2", "res3")  # the backbone's maps that the propagation head refines masks with


@META_ARCH_REGISTRY.register()
class SeqMaskRCNN(GeneralizedRCNN):
    """Detectron2's GeneralizedRCNN with a :class:`PropagationHead` on its backbone."""

    @configurable
    def __init__(self, *, prop_head: PropagationHead, settings: CfgNode, **kwargs) -> None:
        """
        Args:
            prop_head: finds given objects in other frames.
            settings: the keys MODEL.SEQ_MASK_RCNN.
            kwargs: of GeneralizedRCNN.

        Raises:
            ConfigError: for settings that are unknown or contradict each other.
        """
        super().__init__(**kwargs)
        check_settings(settings)
        self.prop_head = prop_head
        self.settings = settings

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        kwargs = super().from_config(cfg)
        if cfg.MODEL.BACKBONE.FREEZE_BN_STATISTICS:
            kwargs["backbone"] = freeze_bn_statistics(kwargs["backbone"])
        stages = kwargs["backbone"].bottom_up.output_shape()
        return kwargs | {
            "prop_head": PropagationHead(
                channels=kwargs["backbone"].output_shape()["p2"].channels,
                stage_channels=tuple(stages[name].channels for name in STAGES),
                key_dim=cfg.MODEL.PROP_HEAD.KEY_DIM,
                value_dim=cfg.MODEL.PROP_HEAD.VALUE_DIM,
            ),
            "settings": cfg.MODEL.SEQ_MASK_RCNN,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses of B clips in training, ``[{"tubes": list[Tube]}]`` of videos otherwise."""
        if self.training:
            return losses(self, batched_inputs)
        return [{"tubes": self.predict(video)} for video in batched_inputs]

    @torch.no_grad()
    def predict(self, video: dict) -> list[Tube]:
        """Tubes of one video; ``video["image"]`` is iterated once and then indexed, in short runs backwards."""
        return self.tubes(Proposer(self, video["image"]).run(), video["height"], video["width"])

    def tubes(self, proposals: Proposals, height: int, width: int) -> list[Tube]:
        """What is left of a video's sequences: best first, each once for every class that it scores enough in."""
        kept, scores = reduce_sequences(proposals.scores.numpy(), sequence_iou(proposals.masks), self.settings)
        tubes = []
        for index, own in zip(kept, scores):
            labels = (own >= self.settings.OUTPUT_SCORE_THRESH).nonzero()[0].tolist()
            if labels:
                masks = [
                    mask and resize_mask(mask, proposals.image_size, (height, width), self.device)
                    for mask in proposals.masks[index]
                ]
                tubes += [Tube(label, float(own[label]), masks, track_id=index) for label in labels]
        return tubes

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The pyramid p2 to p6 and the backbone's res2 and res3, of normalised, padded images (B, 3, h, w)."""
        stages = {}
        # Detectron2's FPN keeps what it gets from the backbone to itself.
        hook = self.backbone.bottom_up.register_forward_hook(lambda module, args, out: stages.update(out))
        try:
            pyramid = self.backbone(images)
        finally:
            hook.remove()
        return pyramid | {name: stages[name] for name in STAGES}


def resize_mask(rle: RLE, image_size: tuple[int, int], video_size: tuple[int, int], device: torch.device) -> RLE | None:
    """A mask on the padded image as one on the video's frame: padding cut off, resized bilinearly, above one half."""
    height, width = image_size
    mask = torch.from_numpy(decode_mask(rle)[:height, :width].copy())
    if not mask.any():
        return None
    if image_size != video_size:
        mask = mask.to(device, torch.float32)[None, None]
        mask = F.interpolate(mask, size=video_size, mode="bilinear", align_corners=False)[0, 0] > 0.5
    return encode_masks(mask[None])[0] if mask.any() else None
