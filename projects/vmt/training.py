"""What one training step computes: targets of clips, predictions of every decoder layer and mask stage, their losses.

Shapes: B clips, T frames, Q queries, C channels of a query, N objects of a clip, M matched pairs of all clips,
(H, W) padded frames, (h8, w8) a map of stride 8, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList
from detectron2.utils.comm import get_world_size
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from projects.vmt.criterion import REFINED_LOSSES, ClipCriterion, matched_masks
from projects.vmt.dynamic import double_size
from projects.vmt.features import MaskMaps
from projects.vmt.mask_head import pixel_references
from projects.vmt.matcher import ClipMatcher, ClipTargets, corners
from projects.vmt.refiner import RefineInputs
from vis_core.errors import ConfigError
from vis_core.modeling.clip_transformer import DecoderLayerOutput
from vis_core.modeling.set_prediction import mean_num_objects

ABSENT = 1e-6  # all four numbers of the box of an object that a frame lacks


class ClipMasks(NamedTuple):
    """The first mask stage of one clip's matched queries, and what the next ones need; all float32.

    Attributes:
        queries: (N, C).
        references: (T, N, 2) points (x, y), pixels of the image.
        boxes: (T, N, 4) as x1, y1, x2, y2, pixels of the image.
        maps: of T frames.
        coarse: (T, N, h8, w8) logits.
    """

    queries: torch.Tensor
    references: torch.Tensor
    boxes: torch.Tensor
    maps: MaskMaps
    coarse: torch.Tensor


class ClipLearner:
    """Losses of a model for a batch of clips."""

    @configurable
    def __init__(
        self,
        *,
        matcher: ClipMatcher,
        criterion: ClipCriterion,
        class_offset: int = 1,
        refined_clips: int = 0,
        refined_frames: int = 0,
        refined_instances: int = 10,
        refiner_only: bool = False,
    ) -> None:
        """
        Args:
            matcher, criterion: see there.
            class_offset: what is added to a class of the data set to get its logit.
            refined_clips: clips of a batch that go through the last stage at most, drawn at random; 0 = all.
            refined_frames: consecutive frames of a clip that do so; 0 = all.
            refined_instances: objects of a clip that do so at most; 0 = all.
            refiner_only: nothing but the last stage is trained.
        """
        self.matcher = matcher
        self.criterion = criterion
        self.class_offset = class_offset
        self.refined_clips = refined_clips
        self.refined_frames = refined_frames
        self.refined_instances = refined_instances
        self.refiner_only = refiner_only

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT
        return {
            "matcher": ClipMatcher(cfg),
            "criterion": ClipCriterion(cfg),
            "class_offset": node.CLASS_OFFSET,
            "refined_clips": node.LOSS.REFINED_CLIPS,
            "refined_frames": node.LOSS.REFINED_FRAMES,
            "refined_instances": node.LOSS.REFINED_INSTANCES,
            "refiner_only": node.LOSS.REFINER_ONLY,
        }

    def __call__(self, model: nn.Module, clips: list[dict]) -> dict[str, torch.Tensor]:
        """Weighted losses of B training clips of equal length.

        Those of the last decoder layer have plain names, of earlier layers the suffix ``_0``, ``_1``, ...; the two
        finer mask stages follow the last layer only.

        Raises:
            ConfigError: clips differ in length, or the frames of a clip in size.
        """
        num_frames = check_clips(clips)
        images = model.preprocess_images([x for clip in clips for x in clip["image"]], model.size_divisibility)
        targets = [clip_targets(clip, images.tensor.shape[-2:], self.class_offset, model.device) for clip in clips]
        total = mean_num_objects(sum(len(target.labels) for target in targets), model.device)
        losses = {}
        with torch.set_grad_enabled(not self.refiner_only):
            tokens, frames = model.encode(images.tensor, frame_padding(images), num_frames)
            *earlier, last = enumerate(model.transformer.decode(tokens, num_frames))
            if not self.refiner_only:
                for index, layer in earlier:
                    found = self._layer_losses(model, index, layer, frames.maps, targets, total)[0]
                    losses |= self.criterion.weighted(found, f"_{index}")
            found, matches, masks = self._layer_losses(model, *last, frames.maps, targets, total)
            with torch.autocast(model.device.type, enabled=False):
                second = [second_masks(model, x) for x in masks]
                found |= self.criterion.second_losses(as_tubes(second), matched_masks(targets, matches, 2), total)
        refined = self._refined_losses(model, images, frames, masks, second, targets, matches)
        losses = refined if self.refiner_only else losses | self.criterion.weighted(found) | refined
        if get_world_size() > 1 and not self.refiner_only:
            # What a batch without objects has no use for needs a gradient, too; the refiner's has one already.
            losses["loss_ce"] = losses.get("loss_ce", 0) + no_loss(model)
        return losses

    def _layer_losses(self, model, index, layer, maps, targets, total):
        """Losses of one decoder layer, its B matches, and the first mask stage of its matched queries, B ClipMasks."""
        logits = model.transformer.logits(index, layer.queries)
        # Offsets to reference points are hundreds of pixels: lower precision would blur masks, and lose boxes.
        with torch.autocast(model.device.type, enabled=False):
            logits, boxes = logits.float(), layer.boxes.float()
            matches = self.matcher(logits, boxes, targets)
            masks = [
                coarse_masks(model, layer, clip, queries, target.image_size, maps)
                for clip, (target, (queries, _)) in enumerate(zip(targets, matches))
            ]
            losses = self.criterion.query_losses(logits, boxes, targets, matches, total)
            tubes = as_tubes([x.coarse for x in masks])
            losses |= self.criterion.coarse_losses(tubes, matched_masks(targets, matches, 4), total)
        return losses, matches, masks

    def _refined_losses(self, model, images, frames, masks, second, targets, matches) -> dict[str, torch.Tensor]:
        """Weighted losses of the last stage, which sees frames without their padding, as it will in testing.

        They have the same names whether or not a clip shows an object: processes must agree on them.
        """
        with_objects = [clip for clip, (queries, _) in enumerate(matches) if len(queries)]
        chosen = draw(torch.tensor(with_objects), self.refined_clips)
        picks = [draw(torch.arange(len(matches[clip][0])), self.refined_instances) for clip in chosen]
        num_frames = len(images) // len(targets)
        count = min(self.refined_frames or num_frames, num_frames)
        first = int(torch.randint(num_frames - count + 1, (1,)))
        part = slice(first, first + count)  # of every clip
        total = mean_num_objects(sum(len(pick) for pick in picks), model.device)
        sums = dict.fromkeys((*REFINED_LOSSES, *model.refiner.loss_names), no_loss(model.refiner))
        for clip, pick in zip(chosen.tolist(), picks):
            target, objects = targets[clip], matches[clip][1]
            of_batch = slice(clip * num_frames + part.start, clip * num_frames + part.stop)
            detail = model.detail(images.tensor[of_batch], frames.frames(of_batch))
            inputs = refine_inputs(masks[clip], second[clip], detail, part, pick, target.image_size)
            height, width = (2 * side for side in inputs.detail.shape[-2:])
            labels = target.masks[objects[pick].to(model.device)][:, part, :height, :width]  # (n, t, 2 h2, 2 w2)
            output = model.refiner(inputs, labels)
            with torch.autocast(model.device.type, enabled=False):
                logits = output.masks.float().transpose(0, 1)
                selected = output.selected.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
                found = self.criterion.refined_losses(logits, labels, selected, total, len(picks))
                found |= {name: loss / total for name, loss in output.losses.items()}
            sums = {name: sums[name] + loss for name, loss in found.items()}
        return self.criterion.weighted(sums)


def no_loss(module: nn.Module) -> torch.Tensor:
    """0 that has a gradient, 0 as well, for every parameter that is trained."""
    return 0 * sum(p.sum() for p in module.parameters() if p.requires_grad)


def draw(items: torch.Tensor, most: int) -> torch.Tensor:
    """At most ``most`` of (n,) items, at random and in order; 0 = all."""
    if not most or len(items) <= most:
        return items
    return items[torch.randperm(len(items))[:most].sort().values]


def check_clips(clips: Sequence[dict]) -> int:
    """The clips' number of frames. Raises ConfigError unless it is the same for all, and every clip is of one size."""
    lengths = {len(clip["image"]) for clip in clips}
    if len(lengths) > 1:
        raise ConfigError(
            f"VMT: the clips of a batch have {sorted(lengths)} frames; INPUT.SAMPLING_FRAME_NUM is for all"
        )
    if any(len({x.shape for x in clip["image"]}) > 1 for clip in clips):
        raise ConfigError(
            "VMT: frames of a clip differ in size; INPUT.MIN_SIZE_TRAIN_SAMPLING must end in _by_clip, and "
            "INPUT.CROP.MODE must not be per_frame"
        )
    return lengths.pop()


def clip_targets(clip: dict, padded_size: Sequence[int], class_offset: int, device: torch.device) -> ClipTargets:
    """The objects that at least one frame of a training clip shows.

    Args:
        clip: ``instances``, T of them with rows aligned (gt_classes, gt_boxes, gt_masks, gt_ids: -1 = not visible).
        padded_size: (H, W).
        class_offset: added to gt_classes.
        device: of the targets.
    """
    frames = clip["instances"]
    visible = torch.stack([x.gt_ids >= 0 for x in frames], dim=1)  # (N, T)
    kept = visible.any(dim=1)
    visible = visible[kept]
    height, width = frames[0].image_size
    first = visible.int().argmax(dim=1, keepdim=True)  # of the frames that show the object
    classes = torch.stack([x.gt_classes[kept] for x in frames], dim=1).gather(1, first)[:, 0]
    boxes = torch.stack([x.gt_boxes.tensor[kept] for x in frames], dim=1).float()  # (N, T, 4)
    boxes = box_convert(boxes / boxes.new_tensor([width, height, width, height]), in_fmt="xyxy", out_fmt="cxcywh")
    boxes = torch.where(visible[..., None], boxes.clamp(min=ABSENT), ABSENT)
    masks = torch.stack([x.gt_masks.tensor[kept] for x in frames], dim=1) & visible[..., None, None]
    masks = F.pad(masks, (0, padded_size[1] - width, 0, padded_size[0] - height))
    return ClipTargets((classes + class_offset).to(device), boxes.to(device), masks.to(device), (height, width))


def frame_padding(images: ImageList) -> torch.Tensor | None:
    """(N, H, W) bool, True where a frame is padded; None if none is."""
    size = tuple(images.tensor.shape[-2:])
    if all(tuple(image_size) == size for image_size in images.image_sizes):
        return None
    padding = torch.ones(len(images), *size, dtype=torch.bool, device=images.tensor.device)
    for frame, (height, width) in zip(padding, images.image_sizes):
        frame[:height, :width] = False
    return padding


def coarse_masks(
    model: nn.Module,
    layer: DecoderLayerOutput,
    clip: int,
    queries: torch.Tensor,
    image_size: tuple[int, int],
    maps: MaskMaps,
) -> ClipMasks:
    """First mask stage of some queries of one clip.

    Args:
        model: gives the mask head.
        layer: decoder layer, of all clips.
        clip: number in the batch.
        queries: (N,) int64.
        image_size: (height, width) of its frames, without padding.
        maps: of all frames of all clips.
    """
    num_frames = layer.boxes.shape[1]
    queries = queries.to(layer.boxes.device)
    height, width = image_size
    content = layer.queries[clip, queries].float()
    references = pixel_references(layer.references[clip, :, queries].float(), image_size)
    boxes = corners(layer.boxes[clip, :, queries].detach().float())
    boxes = boxes * boxes.new_tensor([width, height, width, height])
    own = MaskMaps(*(x.float() for x in maps.frames(slice(clip * num_frames, (clip + 1) * num_frames))))
    if len(queries):
        coarse = model.masks.coarse(content, references, own)
    else:
        coarse = own.coarse.new_zeros(num_frames, 0, *own.coarse.shape[-2:])
    return ClipMasks(content, references, boxes, own, coarse)


def second_masks(model: nn.Module, masks: ClipMasks) -> torch.Tensor:
    """Second mask stage, (T, N, h4, w4) logits; no gradient reaches the first stage through it."""
    if not len(masks.queries):
        return masks.maps.second.new_zeros(len(masks.maps.second), 0, *masks.maps.second.shape[-2:])
    return model.masks.second(masks.queries, masks.references, masks.maps, masks.coarse.detach())


def refine_inputs(
    masks: ClipMasks,
    second: torch.Tensor,
    detail: torch.Tensor,
    part: slice,
    pick: torch.Tensor,
    image_size: tuple[int, int],
) -> RefineInputs:
    """What the last stage sees of some instances in some frames of a clip, without the frames' padding.

    Args:
        masks, second: the stages before, of all matched queries and all frames.
        detail: (t, C, H / 2, W / 2) of the frames in ``part``.
        part: frames.
        pick: (n,) int64, instances.
        image_size: (height, width) without padding.
    """

    def inside(maps: torch.Tensor, stride: int) -> torch.Tensor:
        return maps[..., : -(-image_size[0] // stride), : -(-image_size[1] // stride)]

    pick = pick.to(second.device)
    return RefineInputs(
        maps=MaskMaps(*(inside(x, stride) for x, stride in zip(masks.maps.frames(part), (8, 4, 4)))),
        detail=inside(detail, 2),
        coarse=inside(masks.coarse.detach()[part][:, pick], 8),
        second=inside(second.detach()[part][:, pick], 4),
        queries=masks.queries[pick],
        references=masks.references[part][:, pick],
        boxes=masks.boxes[part][:, pick],
    )


def as_tubes(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """B mask logits (T, N, h, w) at twice the size, one after the other: (M, T, 2h, 2w)."""
    num_frames, _, height, width = logits[0].shape
    none = logits[0].new_zeros(num_frames, 0, 2 * height, 2 * width)
    return torch.cat([none, *(double_size(x) for x in logits if x.shape[1])], dim=1).transpose(0, 1)
