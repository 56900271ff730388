from vis_core.tracking.assignment import DROPPED, NEW, greedy_assign
from vis_core.tracking.association import (
    UNMATCHED,
    bisoftmax,
    cosine_similarity,
    greedy_association,
    optimal_association,
)
from vis_core.tracking.embedding_bank import EmbeddingBank, similarity_guided
from vis_core.tracking.mask_nms import mask_nms, pairwise_mask_iou
from vis_core.tracking.memory import ExemplarMemory
from vis_core.tracking.similarity import dot_product_logits, pairwise_iou

__all__ = [
    "DROPPED",
    "NEW",
    "UNMATCHED",
    "EmbeddingBank",
    "ExemplarMemory",
    "bisoftmax",
    "cosine_similarity",
    "dot_product_logits",
    "greedy_assign",
    "greedy_association",
    "mask_nms",
    "optimal_association",
    "pairwise_iou",
    "pairwise_mask_iou",
    "similarity_guided",
]
