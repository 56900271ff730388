"""CTVIS (Ying et al., "Consistent Training for Online Video Instance Segmentation", ICCV 2023, arXiv 2307.12616).

Mask2Former on single frames, a head that embeds its queries, and an online tracker that compares embeddings with a
memory bank. Training builds the same bank from the frames of a clip, so that it sees what the tracker will see.

Shapes: B clips, T frames, Q queries, K classes, C values of an embedding, (h, w) mask logits at stride 4, (H, W) the
video's own size.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Instances

from projects.ctvis.learner import ContrastiveLearner
from projects.ctvis.masks import masks_in_chunks
from projects.ctvis.tracker import CTVISTracker
from projects.ctvis.tracks import VideoTracks
from vis_core.modeling import visible
from vis_core.modeling.cpu_inference import for_inference
from vis_core.modeling.mask2former import MaskFormer, mask_targets
from vis_core.tube import Tube


@dataclass
class TrackedFrame:
    """What is known of one frame's N objects, best first.

    Attributes:
        ids: (N) identities.
        logits: (N, K + 1), the last class is "no object".
        masks: (N, h, w) logits.
        padded_size: (height, width) of the network's input, image_size: of the frame in its upper left corner.
    """

    ids: list[int]
    logits: torch.Tensor
    masks: torch.Tensor
    padded_size: tuple[int, int]
    image_size: tuple[int, int]


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
        tracks = copy.copy(self.tracks)
        tracks.reset()
        size = (video["height"], video["width"])
        num_frames = 0
        for frame in self.tracked_frames(video["image"], self.test_batch_size()):
            tracks.add_frame(num_frames, frame.ids, frame.logits.cpu().numpy())
            for part, *found in masks_in_chunks(frame.masks, frame.padded_size, frame.image_size, size):
                tracks.add_masks(num_frames, frame.ids[part], *found)
            num_frames += 1
        return tracks.tubes(num_frames, self.num_outputs)

    @torch.no_grad()
    def stream(self, frames: Iterable[torch.Tensor], height: int, width: int) -> Iterator[Instances]:
        """Segment and track through a video as its frames come, one result per frame; nothing of the past is kept but
        the tracker's bank.

        Identities and masks are those of :meth:`predict`. Classes and scores (class probability times mean foreground
        probability) are of the frame alone, where those of a tube weigh all of its frames; and short-lived tracks,
        which :meth:`predict` takes back later, are put out, as are those beyond ``num_outputs``.

        Args:
            frames: (3, h, w) in ``INPUT.FORMAT``, already resized for the network; read once, in order.
            height, width: (H, W) the results' size, pixels.

        Yields:
            Instances with pred_boxes, scores, pred_classes, pred_masks (N, H, W) bool and pred_ids (N,) int64.
        """
        for frame in self.tracked_frames(frames, batch_size=1):  # the next one may not have happened yet
            yield frame_instances(frame, (height, width))

    @torch.no_grad()
    def tracked_frames(self, frames: Iterable[torch.Tensor], batch_size: int) -> Iterator[TrackedFrame]:
        """Segment and identify; masks stay logits at stride 4. ``batch_size`` frames are read and go through the
        network together."""
        tracker = copy.copy(self.tracker)
        tracker.reset()
        backbone, head = for_inference(self.backbone), for_inference(self.sem_seg_head)
        frames = iter(frames)
        while window := list(itertools.islice(frames, batch_size)):
            images = self.preprocess_images(window)
            with torch.autocast("cuda", dtype=torch.float16, enabled=self.autocast and self.device.type == "cuda"):
                outputs = head(backbone(images.tensor), with_aux=False)
            for t, image_size in enumerate(images.image_sizes):
                logits, masks, embeds = (outputs[name][t] for name in ("pred_logits", "pred_masks", "pred_embeds"))
                tracked = tracker.step(logits, masks, embeds)
                yield TrackedFrame(
                    tracked.ids,
                    logits[tracked.queries].float(),
                    masks[tracked.queries],
                    images.tensor.shape[-2:],
                    image_size,
                )

    def test_batch_size(self) -> int:
        """Frames that go through the network together. On a CPU a batch is no faster, takes more memory, and what it is
        rounded to depends on its size."""
        return 1 if self.device.type == "cpu" else self.window


def frame_instances(frame: TrackedFrame, size: tuple[int, int]) -> Instances:
    """One frame's objects with masks at ``size``, (H, W); see :meth:`CTVIS.stream`."""
    probabilities, classes = frame.logits.softmax(dim=1)[:, :-1].max(dim=1)
    masks = torch.zeros(len(frame.ids), *size, dtype=torch.bool, device=probabilities.device)
    scores = probabilities.clone()
    for part, found, confidence, num_pixels in masks_in_chunks(frame.masks, frame.padded_size, frame.image_size, size):
        masks[part] = found
        scores[part] *= confidence / (num_pixels + 1e-6)
    return Instances(
        size,
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
        scores=scores,
        pred_classes=classes,
        pred_masks=masks,
        pred_ids=torch.tensor(frame.ids, dtype=torch.int64, device=masks.device),
    )
