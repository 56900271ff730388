"""Two-stage detectors: backbone, proposals, heads on proposals."""

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY

# Proposals and detections drawn on a training image; more than that is unreadable.
_MAX_DRAWN = 20


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """Faster and Mask R-CNN and their like.

    Args:
        backbone: maps images to features.
        proposal_generator: maps ``(images, features, gt_instances)`` to (proposals, losses); None where inputs bring
            their ``proposals``.
        roi_heads: maps ``(images, features, proposals, gt_instances)`` to (instances, losses).
        pixel_mean, pixel_std: one number a channel, in the channel order of the inputs.
        input_format: that order, only needed for drawing.
        vis_period: > 0: proposals are drawn into the event storage every so many training iterations.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        input_format: str | None = None,
        vis_period: int = 0,
    ):
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        assert len(pixel_mean) == len(pixel_std), f"{len(pixel_mean)} pixel means, {len(pixel_std)} deviations"
        assert vis_period == 0 or input_format is not None, "drawing needs to know the input_format"
        self.input_format = input_format
        self.vis_period = vis_period
        # Not persistent: they are settings, not weights, and stay out of checkpoints.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]):
        """Losses in training, otherwise what :meth:`inference` returns.

        Args:
            batched_inputs: one dict an image: ``image``, (C, H, W) of any dtype from 0 to 255; ``instances`` with
                ``gt_*`` fields (training); ``proposals`` (without a proposal generator); ``height`` and ``width``,
                the wanted size of the output (default that of the image).

        Returns in training one flat dict of scalar losses.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = None
        if "instances" in batched_inputs[0]:
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(images, features, batched_inputs, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return detector_losses | proposal_losses

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        """Detections of every image.

        Args:
            batched_inputs: see :meth:`forward`.
            detected_instances: with ``pred_boxes`` and ``pred_classes`` at network resolution; only the heads that
                work on given boxes then run.
            do_postprocess: scale to the wanted output size.

        Returns ``[{"instances": Instances}]``, or a plain list of Instances at network resolution without
        ``do_postprocess``.
        """
        assert not self.training, "inference is for a model in eval mode"
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            proposals, _ = self._propose(images, features, batched_inputs, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            detected_instances = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, detected_instances)
        if not do_postprocess:
            return results
        outputs = []
        for instances, x, (height, width) in zip(results, batched_inputs, images.image_sizes):
            scaled = detector_postprocess(instances, x.get("height", height), x.get("width", width))
            outputs.append({"instances": scaled})
        return outputs

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise, then pad with zeros to one size that the backbone can take."""
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(
            images, self.backbone.size_divisibility, padding_constraints=self.backbone.padding_constraints
        )

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Draw the first image's ground-truth boxes beside its best proposals into the event storage."""
        from detectron2.data.detection_utils import convert_image_to_rgb
        from detectron2.utils.visualizer import Visualizer

        first = batched_inputs[0]
        image = convert_image_to_rgb(first["image"].permute(1, 2, 0), self.input_format)
        shown = (first["instances"].gt_boxes, proposals[0].proposal_boxes[:_MAX_DRAWN].tensor.cpu().numpy())
        drawn = [Visualizer(image).overlay_instances(boxes=boxes).get_image() for boxes in shown]
        side_by_side = np.concatenate(drawn, axis=1).transpose(2, 0, 1)  # (3, H, 2W)
        get_event_storage().put_image("Left: GT bounding boxes;  Right: Predicted proposals", side_by_side)

    def _propose(self, images, features, batched_inputs, gt_instances):
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, gt_instances)
        return [x["proposals"].to(self.device) for x in batched_inputs], {}
