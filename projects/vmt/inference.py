"""A model over a video: clip by clip, each frame encoded once, each frame's masks computed once.

Shapes: T frames of a clip, N objects of it, Q queries, K logits, C channels of a query, (H, W) the network's input,
(h, w) the video's own size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from torchvision.ops import box_convert

from projects.vmt.dynamic import double_size
from projects.vmt.features import MaskMaps
from projects.vmt.mask_head import pixel_references
from projects.vmt.refiner import RefineInputs
from projects.vmt.results import VideoObjects
from projects.vmt.window import QueryMemory, SoftOverlap, Window, link_objects, pair_affinity, sliding_windows
from vis_core.errors import ConfigError
from vis_core.modeling.clip_transformer import FrameTokens
from vis_core.modeling.mask_resizing import resized_in_chunks
from vis_core.tube import Tube

if TYPE_CHECKING:
    from projects.vmt.model import VMT, FrameMaps

STAGES = ("coarse", "second", "refined")


class EncodedFrame(NamedTuple):
    """All that is kept of a frame: some 10 MB at 360 x 640 pixels.

    Attributes:
        tokens: of this one frame.
        maps: the same. The stem's map is kept only where it cannot be computed again from the image.
        image: (3, H, W) uint8, on the CPU.
    """

    tokens: FrameTokens
    maps: FrameMaps
    image: torch.Tensor


class ClipObjects(NamedTuple):
    """Objects of a clip.

    Attributes:
        logits: (N, K).
        queries: (N, C) video queries.
        references: (T, N, 2) points (x, y), pixels of the network's input.
        boxes: (T, N, 4) as x1, y1, x2, y2, pixels of the network's input.
        query_ids: (N,) which of the Q queries these are, ascending.
    """

    logits: torch.Tensor
    queries: torch.Tensor
    references: torch.Tensor
    boxes: torch.Tensor
    query_ids: torch.Tensor


class VideoInference:
    """Finds and follows the objects of a video; see MODEL.VMT.TEST for what can be chosen."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        class_offset: int,
        num_instances: int = 10,
        num_outputs: int = 10,
        min_score: float = 0.001,
        stage: str = "refined",
        frames_per_batch: int = 5,
        autocast: bool = False,
        window: int = 40,
        overlap: int = 12,
        link_iou_weight: float = 1.0,
        link_query_weight: float = 0.5,
        link_threshold: float = 0.3,
        link_confidence: float = 0.25,
        link_memory: int = 100,
        link_memory_threshold: float = 0.8,
        coverage_power: float = 0.5,
    ) -> None:
        """
        Args:
            num_classes, class_offset, num_outputs, min_score, coverage_power: see
                :meth:`projects.vmt.results.VideoObjects.tubes`.
            num_instances: pairs of query and class of a clip, whose queries become its objects.
            stage: whose masks are put out, of ``STAGES``.
            frames_per_batch: frames that are encoded together on an accelerator.
            autocast: float16 on CUDA.
            window, overlap: see :func:`projects.vmt.window.sliding_windows`.
            link_iou_weight, link_query_weight: see :func:`projects.vmt.window.pair_affinity`.
            link_threshold, link_confidence: see :func:`projects.vmt.window.link_objects`.
            link_memory, link_memory_threshold: see :class:`projects.vmt.window.QueryMemory`.

        Raises:
            ConfigError: unknown ``stage``, or more overlap than window.
        """
        if stage not in STAGES:
            raise ConfigError(f"MODEL.VMT.TEST.STAGE: '{stage}' is not one of {', '.join(STAGES)}")
        if window and not 0 < overlap < window:
            raise ConfigError(
                f"MODEL.VMT.TEST.OVERLAP: {overlap} frames of a WINDOW of {window}; 1 to {window - 1} fit"
            )
        self.num_classes = num_classes
        self.class_offset = class_offset
        self.num_instances = num_instances
        self.num_outputs = num_outputs
        self.min_score = min_score
        self.stage = stage
        self.frames_per_batch = frames_per_batch
        self.autocast = autocast
        self.window = window
        self.overlap = overlap
        self.link_weights = (link_iou_weight, link_query_weight)
        self.link_threshold = link_threshold
        self.link_confidence = link_confidence
        self.link_memory = link_memory
        self.link_memory_threshold = link_memory_threshold
        self.coverage_power = coverage_power

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT
        keys = ("NUM_INSTANCES", "NUM_OUTPUTS", "MIN_SCORE", "STAGE", "FRAMES_PER_BATCH", "AUTOCAST", "WINDOW")
        keys += ("OVERLAP", "LINK_IOU_WEIGHT", "LINK_QUERY_WEIGHT", "LINK_THRESHOLD", "LINK_CONFIDENCE")
        keys += ("LINK_MEMORY", "LINK_MEMORY_THRESHOLD", "COVERAGE_POWER")
        return {
            "num_classes": node.NUM_CLASSES,
            "class_offset": node.CLASS_OFFSET,
            **{key.lower(): node.TEST[key] for key in keys},
        }

    def __call__(self, model: VMT, video: dict) -> list[Tube]:
        """Tubes of ``video`` (``image``, ``height``, ``width``); its frames are read once, in order."""
        size = (video["height"], video["width"])
        objects = VideoObjects()
        memory = QueryMemory(self.link_memory, self.link_memory_threshold)
        before: tuple[Window, ClipObjects, list[int]] | None = None
        num_frames = 0
        with torch.autocast("cuda", dtype=torch.float16, enabled=self.autocast and model.device.type == "cuda"):
            for window in sliding_windows(self.encoded_frames(model, video["image"]), self.window, self.overlap):
                clip = self.clip_objects(model, window.frames)
                links = [None] * len(clip.logits)
                if before is not None:
                    links = memory.recall(self.link(model, window, clip, *before), clip.queries)
                ids = objects.add_clip(links, clip.logits, window.stop - window.first)
                memory.see(ids, clip.queries)
                for t, masks in self.frame_masks(model, clip, window):
                    for part, enlarged in resized_in_chunks(masks, size, size, size):  # nothing is padded
                        objects.add_masks(t, ids[part], enlarged > 0)
                before = (window._replace(frames=()), clip, ids)
                num_frames = window.stop
        return objects.tubes(
            num_frames, self.num_outputs, self.min_score, self.num_classes, self.class_offset, self.coverage_power
        )

    def encoded_frames(self, model: VMT, frames: Iterable[torch.Tensor]) -> Iterator[EncodedFrame]:
        """Frames (3, H, W) uint8 as they come, encoded. On a CPU one by one: a batch is no faster and takes more
        memory."""
        frames = iter(frames)
        batch_size = 1 if model.device.type == "cpu" else self.frames_per_batch
        while batch := list(itertools.islice(frames, batch_size)):
            tokens, maps = model.encode(model.preprocess_images(batch).tensor)
            if model.backbone.stem_dim is not None:
                maps = maps._replace(stem=None)
            for t, image in enumerate(batch):
                part = slice(t, t + 1)
                yield EncodedFrame(
                    tokens._replace(tokens=[tokens.tokens[0][part]]),
                    maps._replace(maps=maps.maps.frames(part), stem=None if maps.stem is None else maps.stem[part]),
                    image.cpu(),
                )
            del tokens, maps, batch

    def clip_objects(self, model: VMT, frames: Sequence[EncodedFrame]) -> ClipObjects:
        """The queries with the best pairs of query and class, for all T frames."""
        tokens = FrameTokens([x for frame in frames for x in frame.tokens.tokens], frames[0].tokens.shapes)
        last = model.transformer.decode(tokens, len(frames))[-1]
        logits = model.transformer.logits(-1, last.queries)[0].float()  # (Q, K)
        best = logits.sigmoid().flatten().topk(min(self.num_instances, logits.numel())).indices
        chosen = best.div(logits.shape[1], rounding_mode="floor").unique()  # ascending
        height, width = frames[0].maps.size
        boxes = box_convert(last.boxes[0][:, chosen], "cxcywh", "xyxy")
        return ClipObjects(
            logits[chosen],
            last.queries[0, chosen],
            pixel_references(last.references[0][:, chosen], (height, width)),
            boxes * boxes.new_tensor([width, height, width, height]),
            chosen,
        )

    def link(
        self, model: VMT, window: Window, clip: ClipObjects, before: Window, objects: ClipObjects, ids: list[int]
    ) -> list[int | None]:
        """Identities of a clip's objects, given the clip before with its objects and identities; None for new ones."""
        overlap = SoftOverlap()
        for t in range(window.start, before.start + len(objects.references)):
            maps = window.frames[t - window.start].maps.maps
            masks, others = (
                self.stages(model, who, slice(t - start, t - start + 1), maps)[1][0].sigmoid()
                for who, start in ((clip, window.start), (objects, before.start))
            )
            overlap.add(masks, others)
        affinity = pair_affinity(overlap.iou(), clip.queries, objects.queries, *self.link_weights)
        scores, other_scores = (who.logits.sigmoid().amax(dim=1) for who in (clip, objects))
        columns = link_objects(affinity, scores, other_scores, self.link_threshold, self.link_confidence)
        return [None if column is None else ids[column] for column in columns]

    def stages(self, model: VMT, clip: ClipObjects, part: slice, maps: MaskMaps) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the first two stages in some frames of a clip, whose maps these are."""
        references = clip.references[part]
        coarse = model.masks.coarse(clip.queries, references, maps)
        return coarse, model.masks.second(clip.queries, references, maps, coarse)

    def frame_masks(self, model: VMT, clip: ClipObjects, window: Window) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and mask logits (N, h', w') of each frame that the window decides."""
        together = model.refiner.num_frames
        for first in range(window.first, window.stop, together):
            part = slice(first - window.start, min(first + together, window.stop) - window.start)
            frames = [window.frames[t] for t in range(part.start, part.stop)]
            maps = MaskMaps(*(torch.cat(x) for x in zip(*(frame.maps.maps for frame in frames))))
            coarse, second = self.stages(model, clip, part, maps)
            if self.stage == "refined":
                images = model.preprocess_images([frame.image for frame in frames]).tensor
                stems = [frame.maps.stem for frame in frames]
                stem = None if stems[0] is None else torch.cat(stems)
                detail = model.detail(images, frames[0].maps._replace(maps=maps, stem=stem))
                masks = model.refiner(
                    RefineInputs(maps, detail, coarse, second, clip.queries, clip.references[part], clip.boxes[part])
                ).masks
            else:
                masks = double_size(coarse if self.stage == "coarse" else second)
            yield from enumerate(masks, start=first)
