"""The online tracker of MaskTrack R-CNN: which of the objects seen before is this detection?

Shapes: N detections of the frame, M objects in memory, D values of an embedding.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable

from vis_core.config import check_choice
from vis_core.tracking import DROPPED, NEW, ExemplarMemory, dot_product_logits, greedy_assign, pairwise_iou

DETECTION_ORDERS = ("class_major", "score")
MEMORY_LABELS = ("last", "first")
REPEATED_IDS = ("keep", "last", "unique")


def match_scores(
    logits: torch.Tensor,
    det_scores: torch.Tensor,
    ious: torch.Tensor,
    same_label: torch.Tensor,
    *,
    det_score_weight: float,
    iou_weight: float,
    det_label_weight: float,
    underflow: bool,
) -> torch.Tensor:
    """How well every detection fits every object in memory (arXiv 1905.04804, equation 3).

    Args:
        logits: (N, 1 + M) float32; column 0 is "a new object".
        det_scores: (N,) detection scores in (0, 1].
        ious: (N, M) overlap of the detection with the object's last box; 0 for a new object.
        same_label: (N, M) bool; a new object counts as having the detection's label.
        underflow: take log(softmax) as the released models do, so that a logit about 103 below its row's greatest
            scores -inf and can never win; otherwise log_softmax, which keeps it finite.

    Returns:
        (N, 1 + M) float32.
    """
    log_probability = logits.softmax(dim=1).log() if underflow else logits.log_softmax(dim=1)
    ious = torch.nn.functional.pad(ious, (1, 0), value=0.0)
    same_label = torch.nn.functional.pad(same_label.float(), (1, 0), value=1.0)
    return (
        log_probability
        + det_score_weight * det_scores.log()[:, None]
        + iou_weight * ious
        + det_label_weight * same_label
    )


class ExemplarTracker:
    """Gives identities to one video's detections, frame by frame, and remembers the last state of each object."""

    @configurable
    def __init__(
        self,
        *,
        det_score_weight: float = 1.0,
        iou_weight: float = 2.0,
        det_label_weight: float = 10.0,
        num_frames_retain: int = 20,
        detection_order: str = "class_major",
        memory_label: str = "last",
        repeated_ids: str = "keep",
        min_match_score: float = -1e6,
        softmax_underflow: bool = True,
    ) -> None:
        """
        Args:
            det_score_weight, iou_weight, det_label_weight: weights of the detection score's logarithm, of the overlap
                and of the equal label beside the embedding's log-probability.
            num_frames_retain: an object not seen for this many frames is forgotten; 0 = never.
            detection_order: "class_major" serves detections by ascending class and descending score within it,
                "score" by descending score. The order decides ids and conflicts.
            memory_label: an object's label is that of its "last" or of its "first" detection.
            repeated_ids: what happens to an id that two detections of a frame got, the second with a better match:
                "keep" both, only the "last" one is put out, or "unique": the loser never held it.
            min_match_score: what a match with an object in memory must exceed.
            softmax_underflow: see :func:`match_scores`.

        Raises:
            ConfigError: for an unknown value of one of the choices.
        """
        check_choice("MODEL.MASKTRACK.DETECTION_ORDER", detection_order, DETECTION_ORDERS)
        check_choice("MODEL.MASKTRACK.MEMORY_LABEL", memory_label, MEMORY_LABELS)
        check_choice("MODEL.MASKTRACK.REPEATED_IDS", repeated_ids, REPEATED_IDS)
        self.weights = {
            "det_score_weight": det_score_weight,
            "iou_weight": iou_weight,
            "det_label_weight": det_label_weight,
            "underflow": softmax_underflow,
        }
        self.num_frames_retain = num_frames_retain
        self.detection_order = detection_order
        self.memory_label = memory_label
        self.repeated_ids = repeated_ids
        self.min_match_score = min_match_score
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.MASKTRACK
        return {
            "det_score_weight": node.MATCH_WEIGHTS.DET_SCORE,
            "iou_weight": node.MATCH_WEIGHTS.IOU,
            "det_label_weight": node.MATCH_WEIGHTS.DET_LABEL,
            "num_frames_retain": node.NUM_FRAMES_RETAIN,
            "detection_order": node.DETECTION_ORDER,
            "memory_label": node.MEMORY_LABEL,
            "repeated_ids": node.REPEATED_IDS,
            "min_match_score": node.MIN_MATCH_SCORE,
            "softmax_underflow": node.SOFTMAX_UNDERFLOW,
        }

    def reset(self) -> None:
        """Forget everything: a new video begins."""
        self.memory = ExemplarMemory()
        self.next_id = 0
        self.frame = -1

    def order(self, labels: torch.Tensor) -> torch.Tensor:
        """Indices (N,) that bring detections with these labels, best score first, into the order to serve them."""
        if self.detection_order == "class_major":
            return torch.argsort(labels, stable=True)
        return torch.arange(len(labels), device=labels.device)

    @torch.no_grad()
    def step(
        self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        """Identities of the next frame's detections, given in the order to serve them.

        A frame without detections changes nothing but the frame count: no object is forgotten in it.

        Args:
            boxes: (N, 4) in the video's own pixels. scores: (N,). labels: (N,) int64. embeds: (N, D).

        Returns:
            (N,) int64 on the CPU; -1 = not put out.
        """
        self.frame += 1
        if len(boxes) == 0:
            return torch.zeros(0, dtype=torch.int64)
        columns = self._match(boxes, scores, labels, embeds)
        ids = []
        for column in columns:
            if column == NEW:
                ids.append(self.next_id)
                self.next_id += 1
            else:
                ids.append(DROPPED if column == DROPPED else self.memory.ids[column - 1])
        kept = [i for i, id_ in enumerate(ids) if id_ != DROPPED]
        fields = {"boxes": boxes[kept], "labels": labels[kept], "embeds": embeds[kept]}
        write_once = ("labels",) if self.memory_label == "first" else ()
        self.memory.update([ids[i] for i in kept], self.frame, fields, write_once)
        if self.num_frames_retain > 0:
            self.memory.evict(self.frame, self.num_frames_retain)
        if self.repeated_ids == "last":
            last = {id_: i for i, id_ in enumerate(ids)}
            ids = [id_ if last[id_] == i else DROPPED for i, id_ in enumerate(ids)]
        return torch.tensor(ids, dtype=torch.int64)

    def match(
        self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        """Match scores (N, 1 + M) float32 of detections with the memory; needs M > 0."""
        memory = self.memory
        return match_scores(
            dot_product_logits(embeds.float(), memory["embeds"].float()),
            scores.float(),
            pairwise_iou(boxes.float(), memory["boxes"].float()),
            labels[:, None] == memory["labels"][None, :],
            **self.weights,
        )

    def _match(self, boxes, scores, labels, embeds) -> list[int]:
        if len(self.memory) == 0:
            return [NEW] * len(boxes)
        table = self.match(boxes, scores, labels, embeds).cpu().numpy()
        return greedy_assign(table, self.min_match_score, one_to_one=self.repeated_ids == "unique")
