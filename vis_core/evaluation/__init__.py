"""Tube AP and AR: exact, fast, and as a Detectron2 evaluator. J and F of DAVIS."""

from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.results import Results
from vis_core.evaluation.submission import write_results, write_submission
from vis_core.evaluation.tracks import TrackMetrics, evaluate_splits, evaluate_tracks

__all__ = [
    "DavisEvaluator",
    "GroundTruth",
    "Results",
    "TrackMetrics",
    "YTVISEvaluator",
    "evaluate_splits",
    "evaluate_tracks",
    "write_results",
    "write_submission",
]


def __getattr__(name: str):
    # The metric itself needs neither detectron2 nor torch, and its worker processes should not wait for them.
    if name == "YTVISEvaluator":
        from vis_core.evaluation.ytvis_evaluator import YTVISEvaluator

        return YTVISEvaluator
    if name == "DavisEvaluator":
        from vis_core.evaluation.davis_evaluator import DavisEvaluator

        return DavisEvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
