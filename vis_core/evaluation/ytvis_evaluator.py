"""Detectron2 evaluator for video instance segmentation data sets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from vis_core.errors import ConfigError, DataError
from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.submission import write_results, write_submission
from vis_core.evaluation.tracks import TrackMetrics, evaluate_splits

logger = logging.getLogger(__name__)

# Task: the kind of IoU and the statistics reported under its name.
_SEGM_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APo_light", "APo_medium", "APo_heavy", "AR1", "AR10")
_TUBE_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TASKS = {"segm": ("segm", _SEGM_NAMES), "tube_mask": ("segm", _TUBE_NAMES), "tube_boundary": ("boundary", _TUBE_NAMES)}


class YTVISEvaluator(DatasetEvaluator):
    """Collects tubes from all processes, writes the results file and the submission archive, computes tube AP and AR.

    Args:
        dataset_name: registered data set; its metadata give ``json_file`` and, optionally, ``thing_classes``,
            ``thing_dataset_id_to_contiguous_id``, ``evaluation_tasks`` (default ``("segm",)``) and ``long_video_ids``
            (then AP_S of the other videos, AP_L of these and their mean AP_SL are added: YouTube-VIS 2022).
        tasks: names from ``TASKS`` to override the metadata's. HQ-YTVIS reports ``("tube_mask", "tube_boundary")``.
        distributed: gather from all processes; False: evaluate what this process saw.
        output_dir: gets ``results.json`` and ``submission.zip``; None: nothing is written.
        submission: write the archive, too.

    :meth:`evaluate` returns ``{task: {metric: value}}`` on the main process, values in percent and NaN where undefined,
    and ``{}`` elsewhere or if the data set comes without ground truth.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        submission: bool = True,
    ) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        self._name = dataset_name
        self._tasks = tuple(self._metadata.get("evaluation_tasks", ("segm",)) if tasks is None else tasks)
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._submission = submission
        self._entries: list[dict] = []
        unknown = [task for task in self._tasks if task not in TASKS]
        if unknown:
            raise ConfigError(
                f"evaluation task '{unknown[0]}' of data set '{dataset_name}' is not one of {list(TASKS)}"
            )
        # Found out now rather than after hours of inference.
        json_file = self._metadata.get("json_file")
        if json_file is None or not PathManager.isfile(json_file):
            raise DataError(f"data set '{dataset_name}': json_file {json_file} does not exist")

    def reset(self) -> None:
        self._entries = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep the tubes of one batch: per video one test dict and one ``{"tubes": [Tube]}``."""
        for video, output in zip(inputs, outputs):
            for tube in output["tubes"]:
                if len(tube) != video.get("length", len(tube)):
                    raise ValueError(
                        f"video {video['video_id']}: the model returned a tube of {len(tube)} frames, "
                        f"the video has {video['length']}"
                    )
                self._entries.append(tube.to_json(video["video_id"]))

    def evaluate(self) -> dict:
        entries: Iterable[dict] = self._entries
        if self._distributed:
            comm.synchronize()
            # Each process saw a contiguous share of the videos, so that this is the order of a single process.
            entries = chain.from_iterable(comm.gather(self._entries, dst=0))
            if not comm.is_main_process():
                return {}
        ground_truth = GroundTruth.load(PathManager.get_local_path(self._metadata.json_file))
        to_dataset_id = self._dataset_ids(ground_truth)
        results = [{**entry, "category_id": self._dataset_id(entry, to_dataset_id)} for entry in entries]
        if not results:
            logger.warning("The model found nothing in data set '%s'.", self._name)
        self._write(results)
        if not ground_truth.has_annotations:
            logger.warning("Data set '%s' comes without ground truth: there is no AP to compute.", self._name)
            return {}
        splits: dict[str, Iterable[int] | None] = {"all": None}
        long_videos = self._metadata.get("long_video_ids")
        if long_videos is not None:
            splits |= {"S": ground_truth.videos.keys() - set(long_videos), "L": long_videos}
        scores = {}
        for task in self._tasks:
            iou_type, names = TASKS[task]
            occlusion = ground_truth.has_occlusion and iou_type == "segm"
            metrics = evaluate_splits(ground_truth, results, splits, iou_type=iou_type, occlusion=occlusion)
            scores[task] = self._percentages(metrics["all"], names)
            if long_videos is not None:
                parts = [_percent(metrics[split].stats["AP"]) for split in "SL"]
                scores[task] |= {"AP_S": parts[0], "AP_L": parts[1], "AP_SL": sum(parts) / 2}
            logger.info("%s of '%s':\n%s", task, self._name, _table(scores[task]))
        return scores

    def _dataset_ids(self, ground_truth: GroundTruth) -> dict[int, int]:
        to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_contiguous is None:
            return dict(enumerate(ground_truth.category_ids))
        return {contiguous: dataset_id for dataset_id, contiguous in to_contiguous.items()}

    def _dataset_id(self, entry: dict, to_dataset_id: dict[int, int]) -> int:
        category = entry["category_id"]
        if category not in to_dataset_id:
            raise ConfigError(
                f"the model predicts class {category}, data set '{self._name}' has {len(to_dataset_id)} classes"
            )
        return to_dataset_id[category]

    def _write(self, results: list[dict]) -> None:
        if self._output_dir is None:
            return
        results_file = self._output_dir / "results.json"
        write_results(results, results_file)
        logger.info("%d tracks written to %s", len(results), results_file)
        if self._submission:
            archive = self._output_dir / "submission.zip"
            write_submission(results_file, archive)
            logger.info("The same for the evaluation servers: %s", archive)

    def _percentages(self, metrics: TrackMetrics, names: Sequence[str]) -> dict[str, float]:
        percentages = {name: _percent(metrics.stats[name]) for name in names if name in metrics.stats}
        if len(metrics.per_category) > 1:
            classes = self._metadata.get("thing_classes") or [c["name"] for c in metrics.per_category.values()]
            for name, category in zip(classes, metrics.per_category.values(), strict=True):
                percentages[f"AP-{name}"] = 100 * category["AP"]
        return percentages


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else math.nan


def _table(values: dict[str, float]) -> str:
    """Names over values, the classes left out (there may be dozens)."""
    shown = {name: f"{value:.2f}" for name, value in values.items() if not name.startswith("AP-")}
    widths = [max(len(name), len(text)) for name, text in shown.items()]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths)) for row in (shown.keys(), shown.values()))
