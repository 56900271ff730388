from vis_core.tracking.assignment import DROPPED, NEW, greedy_assign
from vis_core.tracking.memory import ExemplarMemory
from vis_core.tracking.similarity import dot_product_logits, pairwise_iou

__all__ = ["DROPPED", "NEW", "ExemplarMemory", "dot_product_logits", "greedy_assign", "pairwise_iou"]
