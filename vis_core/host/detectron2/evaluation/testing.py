"""Printing, checking and flattening of results: dicts {task: {metric: number}}."""

import logging
import sys
from collections.abc import Mapping

import numpy as np

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping) -> None:
    """Log the metrics of each task as two lines of comma-separated values, to be pasted into a spreadsheet.

    Metrics with "-" in their name (those of single classes) are left out.
    """
    assert isinstance(results, Mapping) or not results, f"results must be a dict, got {results!r}"
    for task, metrics in (results or {}).items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(shown))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg, results: Mapping) -> bool:
    """Compare results with TEST.EXPECTED_RESULTS: entries (task, metric, value, tolerance).

    Returns:
        True; if a value is missing, not finite or too far off, the process exits with status 1.
    """
    failed = []
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        actual = results.get(task, {}).get(metric)
        if actual is None or not np.isfinite(actual) or abs(actual - expected) > tolerance:
            failed.append(f"{task}/{metric} is {actual}, expected {expected} +- {tolerance}")
    if failed:
        logger.error("Results are not as expected: %s", "; ".join(failed))
        sys.exit(1)
    if cfg.TEST.EXPECTED_RESULTS:
        logger.info("Results are as expected.")
    return True


def flatten_results_dict(results: Mapping) -> dict:
    """{"a": {"b": 1}} -> {"a/b": 1}, at any depth."""
    flat = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{inner}": v for inner, v in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
