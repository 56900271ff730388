"""Mask2Former on images: the instance segmenter whose COCO weights the video methods start from.

Cheng et al., CVPR 2022, arXiv 2112.01527.

Shapes: B images, Q queries, K classes, (H, W) padded size, (h, w) mask logits at a quarter of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.structures import BitMasks, ImageList, Instances, PolygonMasks
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.mask2former.criterion import MaskCriterion
from vis_core.modeling.mask2former.matcher import MaskTargets
from vis_core.modeling.mask_resizing import resize_masks
from vis_core.modeling.visible import visible


@META_ARCH_REGISTRY.register()
class MaskFormer(nn.Module):
    """Backbone, :class:`MaskFormerHead` and :class:`MaskCriterion`, with Detectron2's inputs and outputs."""

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: MaskCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int = 32,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        self.size_divisibility = size_divisibility
        self.detections_per_image = detections_per_image
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "criterion": MaskCriterion(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses in training, ``[{"instances": Instances}]`` otherwise, at each input's ``height`` and ``width``.

        An input has ``image``, (3, h, w) uint8 in ``INPUT.FORMAT``, and in training ``instances`` with gt_classes and
        gt_masks. In training it may also be a clip, with lists of both: its frames are images then.
        """
        if self.training:
            batched_inputs = [image for x in batched_inputs for image in images_of(x)]
        images = self.preprocess_images([x["image"] for x in batched_inputs])
        outputs = self.sem_seg_head(self.backbone(images.tensor))
        if self.training:
            instances = [x["instances"].to(self.device) for x in batched_inputs]
            return self.criterion(outputs, mask_targets(instances, images.tensor.shape[-2:]))[0]
        results = []
        for logits, masks, size, x in zip(
            outputs["pred_logits"], outputs["pred_masks"], images.image_sizes, batched_inputs
        ):
            output_size = (x.get("height", size[0]), x.get("width", size[1]))
            padded_size = images.tensor.shape[-2:]
            found = instance_inference(logits, masks, padded_size, size, output_size, self.detections_per_image)
            results.append({"instances": found})
        return results

    def preprocess_images(self, images: Sequence[torch.Tensor]) -> ImageList:
        """Normalise images (3, h, w), and pad them with zeros to one size, (B, 3, H, W)."""
        normalised = [(image.to(self.device) - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalised, self.size_divisibility)


def images_of(x: dict) -> list[dict]:
    """An image as it is; a clip's frames as inputs of their own, each with the objects that can be seen in it."""
    if isinstance(x["image"], torch.Tensor):
        return [x]
    return [{"image": image, "instances": visible(instances)} for image, instances in zip(x["image"], x["instances"])]


def mask_targets(instances: Sequence[Instances], padded_size: tuple[int, int]) -> list[MaskTargets]:
    """Classes and masks of B images, the masks padded with nothing to ``padded_size``, (N, H, W)."""
    targets = []
    for x in instances:
        masks = x.gt_masks
        if isinstance(masks, PolygonMasks):
            masks = BitMasks.from_polygon_masks(masks.polygons, *x.image_size).to(x.gt_classes.device)
        masks = masks.tensor if isinstance(masks, BitMasks) else masks
        right, below = padded_size[1] - masks.shape[2], padded_size[0] - masks.shape[1]
        targets.append(MaskTargets(x.gt_classes, F.pad(masks, (0, right, 0, below))))
    return targets


def instance_inference(
    logits: torch.Tensor,
    masks: torch.Tensor,
    padded_size: Sequence[int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    num_detections: int,
) -> Instances:
    """The best pairs of query and class of one image.

    Args:
        logits: (Q, K + 1).
        masks: (Q, h, w) logits of the padded image.
        padded_size, image_size: of the padded image and of the image in it, top left.
        output_size: that masks are resized to.
        num_detections: how many pairs, at most.

    Returns:
        Instances with pred_masks (n, *output_size) bool, pred_boxes around them, pred_classes, and scores: class
        probability times mean foreground probability of the mask's pixels. A query may come under several classes.
    """
    probabilities = logits.float().softmax(dim=-1)[:, :-1]  # (Q, K)
    num_classes = probabilities.shape[1]
    scores, picks = probabilities.flatten().topk(min(num_detections, probabilities.numel()), sorted=False)
    queries, rows = picks.div(num_classes, rounding_mode="floor").unique(return_inverse=True)
    chosen = masks[queries, None].float()  # (queries, 1, h, w)
    resized = resize_masks(chosen, padded_size, image_size, output_size)[:, 0]
    inside = resized > 0
    quality = (resized.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    pred_masks = BitMasks(inside[rows])
    return Instances(
        output_size,
        pred_masks=pred_masks.tensor,
        pred_boxes=pred_masks.get_bounding_boxes().to(logits.device),
        scores=scores * quality[rows],
        pred_classes=picks % num_classes,
    )
