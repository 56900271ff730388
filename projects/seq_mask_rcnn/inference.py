"""Sequences of one video, made from key frames and scored.

The video is walked through twice. On the way forward every key frame's objects are detected when it comes, and the
objects of all earlier key frames are found in the frame at hand; on the way back, those of all later ones. So a frame's
features serve all key frames, and need not be kept for more than the way back (window.py).

Shapes: T frames, N objects of a key frame, S sequences of the video, K classes, (h, w) the network's input size,
(H, W) the same padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from projects.seq_mask_rcnn.memory import MemoryBank
from projects.seq_mask_rcnn.near import MEMORY_REACH, decode_near, memorise_near, windows_around
from projects.seq_mask_rcnn.propagation import as_entry, soft_aggregate
from projects.seq_mask_rcnn.propose import key_frames, memory_step, propose
from projects.seq_mask_rcnn.score import SequenceScores, classify, mask_boxes
from projects.seq_mask_rcnn.window import FeatureWindow, FrameFeatures
from vis_core.modeling import with_winograd
from vis_core.tube import RLE, TubeBuilder, encode_masks

if TYPE_CHECKING:
    from projects.seq_mask_rcnn.model import SeqMaskRCNN

# Objects that are decoded or memorised at once, which bounds memory: 80 MiB each at 384 x 640. A CPU is busy, and its
# cache full, with one.
OBJECTS_PER_BATCH = {"cpu": 1}
OBJECTS_PER_BATCH_ELSEWHERE = 8


@dataclass
class Group:
    """The objects of one key frame, which are found in other frames together.

    Attributes:
        key_frame: its number.
        key_entry: keys and values of the key frame, where both directions start from.
        key_boxes: where the objects are in it, (N, 4), x1 y1 x2 y2 in pixels, and whether they have pixels, (N,) bool.
        scores: what the box head says of them.
        bank, boxes: the memory of the direction at hand, and where they were in the frame before.
    """

    key_frame: int
    key_entry: tuple[torch.Tensor, torch.Tensor]
    key_boxes: tuple[torch.Tensor, torch.Tensor]
    scores: SequenceScores
    bank: MemoryBank | None = None
    boxes: tuple[torch.Tensor, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.key_entry[0])


@dataclass
class Proposals:
    """All sequences of a video, key frame after key frame, before reduction.

    Attributes:
        masks: S lists of T RLEs on the padded image, None where the object is absent.
        scores: (S, K) float32, class probabilities without background.
        key_frames: (S,) of each sequence.
        image_size: (h, w).
    """

    masks: list[list[RLE | None]]
    scores: torch.Tensor
    key_frames: list[int]
    image_size: tuple[int, int]


class Proposer:
    """Makes the sequences of one video."""

    def __init__(self, model: SeqMaskRCNN, images: Sequence[torch.Tensor]) -> None:
        """``images``: T frames (3, h, w) in ``INPUT.FORMAT``; iterated once, then indexed."""
        settings = model.settings
        self.model = model
        # Not the detector: which of two boxes wins may hang on a rounding, and its share of the time is small.
        self.head = with_winograd(model.prop_head) if settings.WINOGRAD else model.prop_head
        self.settings = settings
        self.num_frames = len(images)
        self.keys = key_frames(self.num_frames, settings.KEY_NUM, settings.KEY_FRAMES)
        self.step = memory_step(self.num_frames, settings.MEM_STEP, settings.MEM_NUM)
        self.window = FeatureWindow(images, self.features, settings.FEATURE_BUDGET << 20)
        self.margin = settings.SEARCH_MARGIN
        self.batch = OBJECTS_PER_BATCH.get(model.device.type, OBJECTS_PER_BATCH_ELSEWHERE)
        self.masks = TubeBuilder()
        self.groups: list[Group] = []  # of key frames with objects, by key frame

    def features(self, image: torch.Tensor) -> FrameFeatures:
        """Of one frame (3, h, w)."""
        return FrameFeatures(self.model, self.head, image)

    def run(self) -> Proposals:
        """Walk through the video."""
        last = self.num_frames - 1
        frame = None
        for t, frame in self.window.forward():
            if t in self.keys:
                self.start_group(t, frame)
            self.visit(t, frame, self.groups, end=last)
        for group in self.groups:
            self.turn(group, end=0)
        for t, frame in self.window.backward(start=max((group.key_frame for group in self.groups), default=0) - 1):
            self.visit(t, frame, [group for group in self.groups if group.key_frame > t], end=0)
        return self.collect(frame)

    def start_group(self, t: int, frame: FrameFeatures) -> None:
        """Detect the objects of key frame ``t``."""
        masks = propose(self.model, frame.maps, frame.images)  # (N, h, w)
        if len(masks) == 0:
            return
        boxes = mask_boxes(masks)
        scores = SequenceScores(len(masks), self.model.roi_heads.num_classes, masks.device)
        group = Group(t, self.memorise(frame, masks.float(), boxes), boxes, scores)
        self.turn(group, end=self.num_frames - 1)
        self.groups.append(group)

    def turn(self, group: Group, end: int) -> None:
        """Start from the key frame towards frame ``end``, whose memory entry would never be read."""
        size = 1 + max(abs(end - group.key_frame) - 1, 0) // self.step
        cap = self.settings.MEM_CAP
        rule = self.settings.MEM_CAP_RULE if 0 < cap < size else None
        group.bank = None  # let the other direction's memory go first
        group.bank = MemoryBank(*group.key_entry, group.key_frame, cap if rule else size, rule)
        group.boxes = group.key_boxes

    def visit(self, t: int, frame: FrameFeatures, groups: list[Group], end: int) -> None:
        """Find the objects of ``groups`` in frame ``t``, classify and store them, and memorise where it is time to."""
        if not groups:
            return
        sizes = [len(group) for group in groups]
        soft = self.segment(frame, groups)  # (sum of N, H, W)
        masks = soft >= 0.5
        boxes = mask_boxes(masks)
        ids = [(group.key_frame, n) for group in groups for n in range(len(group))]
        self.masks.add_frame(t, ids, masks)
        self.score(frame, groups, masks, boxes)
        for group, *own_boxes in zip(groups, *(x.split(sizes) for x in boxes)):
            group.boxes = tuple(own_boxes)
        self.remember(t, frame, groups, soft.split(sizes), end)

    def remember(
        self, t: int, frame: FrameFeatures, groups: list[Group], soft: Sequence[torch.Tensor], end: int
    ) -> None:
        """Add frame ``t`` to the memory of those groups that it is time for; ``soft``: (N, H, W) of each."""
        distances = [abs(t - group.key_frame) for group in groups]
        due = [i for i, distance in enumerate(distances) if t != end and distance > 0 and distance % self.step == 0]
        if not due:
            return
        boxes = tuple(torch.cat([groups[i].boxes[k] for i in due]) for k in (0, 1))
        keys, values = self.memorise(frame, torch.cat([soft[i] for i in due]), boxes)
        sizes = [len(groups[i]) for i in due]
        for i, own_keys, own_values in zip(due, keys.split(sizes), values.split(sizes)):
            groups[i].bank.append(own_keys, own_values, t)

    def segment(self, frame: FrameFeatures, groups: list[Group]) -> torch.Tensor:
        """Soft masks (sum of N, H, W) float32; those of one group, with background, add up to 1 in every pixel."""
        with self.autocast():
            alone = [self.decode_near(frame, group) for group in groups] if self.margin else self.decode(frame, groups)
        return torch.cat([soft_aggregate(own)[1][1:] for own in alone])

    def decode(self, frame: FrameFeatures, groups: list[Group]) -> tuple[torch.Tensor, ...]:
        """Each object's probability on its own, (N, H, W) for each group."""
        query_key, query_value = frame.query
        read = torch.cat([group.bank.read(query_key) for group in groups])
        parts = [self.head.decode(part, query_value, frame.skips) for part in read.split(self.batch)]
        return torch.cat(parts).split([len(group) for group in groups])

    def decode_near(self, frame: FrameFeatures, group: Group) -> torch.Tensor:
        """:meth:`decode` of one group, around where each object was in the frame before."""
        windows = windows_around(*group.boxes, self.margin, frame.grid_size)
        return decode_near(
            self.head,
            lambda n, query_key: group.bank.read(query_key, slice(n, n + 1)),
            frame.query,
            frame.skips,
            windows,
        )

    def memorise(
        self, frame: FrameFeatures, masks: torch.Tensor, boxes: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One entry's keys and values, (N, 1, S, D) and (N, 1, S, E), of masks (N, <= H, <= W) with these boxes."""
        head, p2 = self.head, frame.maps["p2"]
        with self.autocast():
            if self.margin:
                windows = windows_around(*boxes, self.margin + MEMORY_REACH, frame.grid_size)
                return memorise_near(head, p2, frame.nothing, masks, windows)
            keys, values = zip(*(head.memorise(p2, part) for part in masks.split(self.batch)))
        return as_entry(torch.cat(keys)), as_entry(torch.cat(values))

    def score(
        self, frame: FrameFeatures, groups: list[Group], masks: torch.Tensor, boxes: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        """Add the box head's opinion of one frame's masks (sum of N, H, W) to the groups' scores."""
        if self.settings.SCORE_AREA == "image":
            height, width = frame.image_size
            boxes = mask_boxes(masks[:, :height, :width])
        probabilities = classify(self.model.roi_heads, frame.maps, boxes[0])
        sizes = [len(group) for group in groups]
        for group, own, present in zip(groups, probabilities.split(sizes), boxes[1].split(sizes)):
            group.scores.add(own, present)

    def collect(self, frame: FrameFeatures) -> Proposals:
        """Sequences in the order of key frames; those of a repeated key frame are copies."""
        by_key = {group.key_frame: group for group in self.groups}
        keys = self.keys if self.settings.REPEAT_KEY_FRAMES else sorted(set(self.keys))
        groups = [by_key[key] for key in keys if key in by_key]
        height, width = frame.canvas_size
        empty = encode_masks(torch.zeros(1, height, width, dtype=torch.bool))[0]
        masks = []
        for group in groups:
            for n in range(len(group)):
                rles = self.masks.segmentations((group.key_frame, n), self.num_frames)
                masks.append([None if rle == empty else rle for rle in rles])
        divisor = self.num_frames if self.settings.SCORE_FRAMES == "all" else None
        scores = [group.scores.mean(divisor) for group in groups]
        none = torch.zeros(0, self.model.roi_heads.num_classes)
        return Proposals(
            masks=masks,
            scores=torch.cat([none, *scores]),
            key_frames=[group.key_frame for group in groups for _ in range(len(group))],
            image_size=frame.image_size,
        )

    def autocast(self) -> torch.autocast:
        """Where the propagation head runs, in the number type asked for."""
        dtype = getattr(torch, self.settings.PRECISION)
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype != torch.float32)
