"""CTVIS (Ying et al., "Consistent Training for Online Video Instance Segmentation", ICCV 2023, arXiv 2307.12616).

Mask2Former on single frames, a head that embeds its queries, and an online tracker that compares embeddings with a
memory bank. Training builds the same bank from the frames of a clip, so that it sees what the tracker will see.

Shapes: B clips, T frames, Q queries, K classes, C values of an embedding, (h, w) mask logits at stride 4, (H, W) the
video's own size.
"""

from __future__ import annotations

import copy
import itertools

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances

from projects.ctvis.learner import ContrastiveLearner
from projects.ctvis.masks import masks_in_chunks
from projects.ctvis.tracker import CTVISTracker
from projects.ctvis.tracks import VideoTracks
from vis_core.modeling.mask2former import MaskFormer, mask_targets
from vis_core.tube import Tube


@META_ARCH_REGISTRY.register()
class CTVIS(MaskFormer):
    """The segmenter, the :class:`ContrastiveLearner` that trains embeddings, and the :class:`CTVISTracker`."""

    @configurable
    def __init__(
        self,
        *,
        learner: ContrastiveLearner,
        tracker: CTVISTracker,
        tracks: VideoTracks,
        window: int = 5,
        num_outputs: int = 0,
        autocast: bool = True,
        **kwargs,
    ) -> None:
        """
        Args:
            learner: adds the contrastive losses.
            tracker, tracks: decide identities, and what becomes of them; every video gets copies of its own.
            window: frames that go through the network together at test time; on a CPU it is always one.
            num_outputs: pairs of track and class put out a video; 0 = K.
            autocast: run the network in float16 at test time, on CUDA only.
            kwargs: of MaskFormer.
        """
        super().__init__(**kwargs)
        self.learner = learner
        self.tracker = tracker
        self.tracks = tracks
        self.window = window
        self.num_outputs = num_outputs or self.criterion.num_classes
        self.autocast = autocast

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.CTVIS.TEST
        return {
            **super().from_config(cfg),
            "learner": ContrastiveLearner(cfg),
            "tracker": CTVISTracker(cfg),
            "tracks": VideoTracks(cfg),
            "window": node.WINDOW,
            "num_outputs": node.NUM_OUTPUTS,
            "autocast": node.AUTOCAST,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses of B clips in training, ``[{"tubes": list[Tube]}]`` of videos otherwise.

        A clip has ``image`` (frames (3, h, w) uint8) and ``instances`` (with gt_classes, gt_masks and gt_ids, -1 = not
        in this frame, row i of every frame the same object); a video has ``image`` (any iterable of frames) and its
        own ``height`` and ``width``.
        """
        if self.training:
            return self.losses(batched_inputs)
        return [{"tubes": self.predict(video)} for video in batched_inputs]

    def losses(self, clips: list[dict]) -> dict[str, torch.Tensor]:
        """The segmenter's losses on all frames as images, and ``loss_reid`` and ``loss_aux_reid`` of the clips."""
        images = self.preprocess_images([frame for clip in clips for frame in clip["image"]])
        instances = [[frame.to(self.device) for frame in clip["instances"]] for clip in clips]
        outputs = self.sem_seg_head(self.backbone(images.tensor), with_aux=True)
        targets = mask_targets([visible(x) for x in itertools.chain(*instances)], images.tensor.shape[-2:])
        losses, matches = self.criterion(outputs, targets)
        return losses | self.learner(outputs, instances, matches, self.criterion.matcher)

    @torch.no_grad()
    def predict(self, video: dict) -> list[Tube]:
        """Tubes of one video, by descending class probability. Frames are read once, in order, and not kept."""
        tracker, tracks = copy.copy(self.tracker), copy.copy(self.tracks)
        tracker.reset()
        tracks.reset()
        frames = iter(video["image"])
        num_frames = 0
        while window := list(itertools.islice(frames, self.test_batch_size())):
            images = self.preprocess_images(window)
            with torch.autocast("cuda", dtype=torch.float16, enabled=self.autocast and self.device.type == "cuda"):
                outputs = self.sem_seg_head(self.backbone(images.tensor), with_aux=False)
            for t, image_size in enumerate(images.image_sizes):
                logits, masks, embeds = (outputs[name][t] for name in ("pred_logits", "pred_masks", "pred_embeds"))
                tracked = tracker.step(logits, masks, embeds)
                tracks.add_frame(num_frames, tracked.ids, logits[tracked.queries].float().cpu().numpy())
                for part, *found in masks_in_chunks(
                    masks[tracked.queries], images.tensor.shape[-2:], image_size, (video["height"], video["width"])
                ):
                    tracks.add_masks(num_frames, tracked.ids[part], *found)
                num_frames += 1
        return tracks.tubes(num_frames, self.num_outputs)

    def test_batch_size(self) -> int:
        """Frames that go through the network together. On a CPU a batch is no faster, takes more memory, and what it is
        rounded to depends on its size."""
        return 1 if self.device.type == "cpu" else self.window


def visible(instances: Instances) -> Instances:
    """The objects (N,) of a clip's track list that can be seen in this frame."""
    return instances[instances.gt_ids >= 0]
