"""MaskTrack R-CNN (Yang et al., "Video Instance Segmentation", ICCV 2019, arXiv 1905.04804).

Mask R-CNN with a head that embeds every detection, and an online tracker that compares embeddings with those of the
objects seen so far.

Shapes: B clips, (h, w) the network's input size, (H, W) the video's own size, N objects of a frame.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterable, Iterator

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage

from projects.masktrack_rcnn.track_head import TrackHead
from projects.masktrack_rcnn.tracker import ExemplarTracker
from vis_core.data.seeding import seeded
from vis_core.modeling import freeze_bn_statistics, visible
from vis_core.tube import Tube, TubeBuilder


@META_ARCH_REGISTRY.register()
class MaskTrackRCNN(GeneralizedRCNN):
    """Detectron2's GeneralizedRCNN with a :class:`TrackHead` and an :class:`ExemplarTracker`.

    Training takes clips of (at least) two frames: the first, the key frame, trains detection; the boxes of objects in
    the second, the reference frame, are what the key frame's proposals are matched with.
    """

    @configurable
    def __init__(
        self,
        *,
        track_head: TrackHead,
        tracker: ExemplarTracker,
        frames_per_batch: int = 1,
        symmetric_training: bool = False,
        **kwargs,
    ) -> None:
        """
        Args:
            track_head: embeds boxes.
            tracker: decides identities; every video gets a copy of its own.
            frames_per_batch: frames that are detected on together at test time.
            symmetric_training: the reference frame trains detection too, and each frame is the other's reference.
            kwargs: of GeneralizedRCNN.
        """
        super().__init__(**kwargs)
        self.track_head = track_head
        self.tracker = tracker
        self.frames_per_batch = frames_per_batch
        self.symmetric_training = symmetric_training

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        kwargs = super().from_config(cfg)
        if cfg.MODEL.BACKBONE.FREEZE_BN_STATISTICS:
            kwargs["backbone"] = freeze_bn_statistics(kwargs["backbone"])
        return kwargs | {
            "track_head": TrackHead(cfg, kwargs["backbone"].output_shape()),
            "tracker": ExemplarTracker(cfg),
            "frames_per_batch": cfg.MODEL.MASKTRACK.FRAMES_PER_BATCH,
            "symmetric_training": cfg.MODEL.MASKTRACK.SYMMETRIC_TRAINING,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses of B clips in training, ``[{"tubes": list[Tube]}]`` of videos otherwise.

        A clip has ``image`` (frames (3, h, w) uint8) and ``instances`` (with gt_boxes, gt_classes, gt_masks and gt_ids,
        -1 = not in this frame); a video has ``image`` (any iterable of frames) and its own ``height`` and ``width``.
        """
        if self.training:
            return self.losses(batched_inputs)
        return [{"tubes": self.predict(video)} for video in batched_inputs]

    def losses(self, clips: list[dict]) -> dict[str, torch.Tensor]:
        """loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg, loss_mask and loss_match; their sum is to be minimised.

        Each loss is the mean of the clips' own, as with the one clip a GPU of the published schedule; what is drawn at
        random for a clip follows from its ``seed`` where it has one. So a step on a global batch is the same however
        many processes share it (batch norm on batch statistics apart).
        """
        num_clips = len(clips)
        # Key frames first, then reference frames; both go through the backbone with gradient. (2B frames)
        images = self.preprocess_image([{"image": clip["image"][k]} for k in (0, 1) for clip in clips])
        features = self.backbone(images.tensor)
        clip_losses, accuracies = [], []
        for b, clip in enumerate(clips):
            pair = ImageList(images.tensor[b::num_clips], images.image_sizes[b::num_clips])
            objects = [visible(frame).to(self.device) for frame in clip["instances"][:2]]
            with seeded(clip["seed"]) if "seed" in clip else contextlib.nullcontext():
                losses, accuracy = self.pair_losses(pair, {k: x[b::num_clips] for k, x in features.items()}, objects)
            clip_losses.append(losses)
            accuracies.append(accuracy)
        get_event_storage().put_scalar("match_accuracy", sum(accuracies) / num_clips)
        return {name: sum(losses[name] for losses in clip_losses) / num_clips for name in clip_losses[0]}

    def pair_losses(
        self, images: ImageList, features: dict[str, torch.Tensor], objects: list[Instances]
    ) -> tuple[dict[str, torch.Tensor], float]:
        """Losses and match accuracy (percent) of one clip's key and reference frame (2 images)."""
        num_keys = 2 if self.symmetric_training else 1
        key_images = ImageList(images.tensor[:num_keys], images.image_sizes[:num_keys])
        key_features = {name: x[:num_keys] for name, x in features.items()}
        proposals, proposal_losses = self.proposal_generator(key_images, key_features, objects[:num_keys])
        positives, positive_ids = self.track_head.sample(proposals, objects[:num_keys])
        _, detector_losses = self.roi_heads(key_images, key_features, proposals, objects[:num_keys])

        # Frame k's proposals are matched with the objects of the other frame: 1 for the key frame, 0 for frame 1.
        others = [1, 0][:num_keys]
        ref_features = {name: x[others] for name, x in features.items()}
        references = self.track_head(ref_features, [objects[k].gt_boxes for k in others])
        references = references.split([len(objects[k]) for k in others])
        embeds = self.track_head(key_features, positives).split([len(x) for x in positives])
        loss_match, accuracy = self.track_head.losses(
            embeds, positive_ids, references, [objects[k].gt_ids for k in others]
        )
        return {**proposal_losses, **detector_losses, "loss_match": loss_match}, accuracy.item()

    def predict(self, video: dict) -> list[Tube]:
        """Tubes of one video: score = mean and class = majority over the frames where the object was seen."""
        builder = TubeBuilder()
        num_frames = 0
        for instances in self.stream(video["image"], video["height"], video["width"]):
            builder.add_frame(
                num_frames, instances.pred_ids, instances.pred_masks, instances.scores, instances.pred_classes
            )
            num_frames += 1
        return builder.build(num_frames)

    @torch.no_grad()
    def stream(self, frames: Iterable[torch.Tensor], height: int, width: int) -> Iterator[Instances]:
        """Detect and track through a video as its frames come, one result per frame.

        Args:
            frames: (3, h, w) in ``INPUT.FORMAT``, already resized for the network; read once, in order.
            height, width: (H, W) the results' size, pixels.

        Yields:
            Instances with pred_boxes, scores, pred_classes, pred_masks (N, H, W) bool and pred_ids (N,) int64.
        """
        tracker = copy.copy(self.tracker)
        tracker.reset()
        frames = iter(frames)
        while batch := list(itertools.islice(frames, self.frames_per_batch)):
            images = self.preprocess_image([{"image": frame} for frame in batch])
            features = self.backbone(images.tensor)
            detections = self.detect(images, features)
            for t, found in enumerate(detections):
                yield self.track(tracker, {name: x[t : t + 1] for name, x in features.items()}, found, height, width)

    def detect(self, images: ImageList, features: dict[str, torch.Tensor]) -> list[Instances]:
        """Boxes, scores and classes of every image, without masks; by descending score."""
        proposals, _ = self.proposal_generator(images, features, None)
        heads = self.roi_heads
        pooled = heads.box_pooler(
            [features[name] for name in heads.box_in_features], [x.proposal_boxes for x in proposals]
        )
        return heads.box_predictor.inference(heads.box_predictor(heads.box_head(pooled)), proposals)[0]

    def track(
        self, tracker: ExemplarTracker, features: dict[str, torch.Tensor], found: Instances, height: int, width: int
    ) -> Instances:
        """Identify one frame's detections (boxes in the network's pixels), and make masks of those that stay."""
        boxes = found.pred_boxes.clone()
        boxes.scale(width / found.image_size[1], height / found.image_size[0])
        boxes.clip((height, width))
        valid = torch.nonzero(boxes.nonempty()).squeeze(1)
        order = valid[tracker.order(found.pred_classes[valid])]
        found, boxes = found[order], boxes[order]

        embeds = self.track_head(features, [found.pred_boxes])
        ids = tracker.step(boxes.tensor, found.scores, found.pred_classes, embeds)
        kept = torch.nonzero(ids >= 0).squeeze(1)
        ids, rows = ids[kept], kept.to(boxes.device)
        found, boxes = found[rows], boxes[rows]
        (found,) = self.roi_heads.forward_with_given_boxes(features, [found])
        return Instances(
            (height, width),
            pred_boxes=boxes,
            scores=found.scores,
            pred_classes=found.pred_classes,
            # (N, 1, S, S) probabilities to (N, H, W); nothing to paste comes back as uint8.
            pred_masks=paste_masks_in_image(found.pred_masks[:, 0], boxes, (height, width), threshold=0.5).bool(),
            pred_ids=ids.to(boxes.device),
        )
