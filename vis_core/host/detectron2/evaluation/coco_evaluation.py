"""COCO's AP of boxes and masks, computed by pycocotools."""

import contextlib
import copy
import io
import itertools
import json
import logging
import os

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from .evaluator import DatasetEvaluator

__all__ = ["COCOEvaluator", "instances_to_coco_json"]

TASKS = ("bbox", "segm")
_NO_AREA_LIMIT, _SMALL, _MEDIUM, _LARGE = range(4)  # COCO's area ranges, in its order


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict]:
    """Predictions of one image in COCO's result format.

    Args:
        instances: on the CPU, with ``pred_boxes`` (Boxes), ``scores``, ``pred_classes`` and optionally ``pred_masks``
            (N, H, W).

    Returns:
        For each instance image_id, category_id (the contiguous class), bbox (x, y, w, h), score and, with masks,
        segmentation (RLE with ``counts`` as a string).
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor.numpy(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    results = [
        {"image_id": img_id, "category_id": category, "bbox": box, "score": score}
        for box, category, score in zip(boxes, instances.pred_classes.tolist(), instances.scores.tolist())
    ]
    if instances.has("pred_masks"):
        for result, mask in zip(results, instances.pred_masks):
            rle = mask_util.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))
            result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return results


def average_precisions(precision: np.ndarray, iou_thresholds: np.ndarray) -> dict[str, float]:
    """COCO's six summaries, in percent; nan where nothing is defined.

    Args:
        precision: (T, R, K, A, M): IoU thresholds, recall points, classes, area ranges, detection limits (the last
            one is used); -1 marks undefined values.
        iou_thresholds: (T,).
    """
    precision = precision[..., -1]  # (T, R, K, A)

    def at(threshold: float) -> np.ndarray:
        return precision[np.isclose(iou_thresholds, threshold), :, :, _NO_AREA_LIMIT]

    return {
        "AP": _percent(precision[..., _NO_AREA_LIMIT]),
        "AP50": _percent(at(0.5)),
        "AP75": _percent(at(0.75)),
        "APs": _percent(precision[..., _SMALL]),
        "APm": _percent(precision[..., _MEDIUM]),
        "APl": _percent(precision[..., _LARGE]),
    }


def _percent(precision: np.ndarray) -> float:
    defined = precision[precision > -1]
    return float(defined.mean() * 100) if defined.size else float("nan")


class COCOEvaluator(DatasetEvaluator):
    """AP of boxes ("bbox") and masks ("segm") on a dataset in COCO's format.

    A dataset without ``json_file`` in its metadata is first converted into ``output_dir``.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: tuple[float, ...] = (),
        allow_cached_coco: bool = True,
    ):
        """
        Args:
            tasks: some of "bbox" and "segm"; None: what the predictions have.
            distributed: collect the predictions of all processes on the first one.
            output_dir: where to write ``instances_predictions.pth`` and ``coco_instances_results.json``.
            max_dets_per_image: of an image and category, only that many of the highest scores count; default 100.
            use_fast_impl: accepted for compatibility; the result is the same either way.
            kpt_oks_sigmas: for keypoints, which this subset does not evaluate (ImportError if given).
            allow_cached_coco: reuse a conversion that is in ``output_dir`` already.
        """
        unknown = set(tasks or ()) - set(TASKS)
        if unknown or kpt_oks_sigmas:
            what = ", ".join(sorted(unknown)) or "keypoints"
            raise ImportError(f"evaluation of {what} is not in the bundled subset of detectron2; use the official one")
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets = 100 if max_dets_per_image is None else max_dets_per_image
        self._logger = logging.getLogger(__name__)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._predictions: list[dict] = []
        json_file = self._metadata.get("json_file")
        if json_file is None:
            if output_dir is None:
                raise ValueError(f"dataset '{dataset_name}' has no json_file: converting it needs an output_dir")
            json_file = os.path.join(output_dir, f"{dataset_name}_coco_format.json")
            convert_to_coco_json(dataset_name, json_file, allow_cached=allow_cached_coco)
            self._metadata.json_file = json_file
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            self._coco = COCO(PathManager.get_local_path(json_file))
        # test sets come without annotations: then the results are written, not measured
        self._has_annotations = "annotations" in self._coco.dataset

    def reset(self) -> None:
        self._predictions = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``.
        """
        for i, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            entries = instances_to_coco_json(instances, i["image_id"])
            self._predictions.append({"image_id": i["image_id"], "instances": entries})

    def evaluate(self, img_ids: list | None = None) -> dict[str, dict[str, float]]:
        """
        Args:
            img_ids: evaluate on these images only.

        Returns:
            {task: {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-<class>"}} in percent on the main process, {} on the
            others, and where there is nothing to evaluate.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain.from_iterable(comm.gather(predictions, dst=0)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("No predictions were given to the evaluator")
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "instances_predictions.pth"), "wb") as f:
                torch.save(predictions, f)
        entries = self._with_dataset_categories([entry for p in predictions for entry in p["instances"]])
        if self._output_dir:
            with PathManager.open(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as f:
                json.dump(entries, f)
        if not self._has_annotations:
            self._logger.info("The dataset has no annotations: nothing to measure")
            return {}
        tasks = self._tasks or [t for t in TASKS if t == "bbox" or any("segmentation" in e for e in entries)]
        return {task: self._measure(task, entries, img_ids) for task in tasks}

    def _with_dataset_categories(self, entries: list[dict]) -> list[dict]:
        """Contiguous classes -> category ids of the dataset's file."""
        id_map = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if id_map is None:
            return entries
        dataset_id = {contiguous: id for id, contiguous in id_map.items()}
        for entry in entries:
            category = entry["category_id"]
            assert category in dataset_id, f"class {category} was predicted, the dataset has 0 to {len(dataset_id) - 1}"
        return [{**entry, "category_id": dataset_id[entry["category_id"]]} for entry in entries]

    def _measure(self, task: str, entries: list[dict], img_ids: list | None) -> dict[str, float]:
        if not entries:
            return average_precisions(np.full((1, 1, 1, 4, 1), -1.0), np.array([0.5]))
        entries = copy.deepcopy(entries)  # pycocotools adds to them
        if task == "segm":
            for entry in entries:
                # with a box there, pycocotools would take an object's area from it and not from its mask
                entry.pop("bbox", None)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco, self._coco.loadRes(entries), task)
            evaluation.params.maxDets = [self._max_dets]
            if img_ids is not None:
                evaluation.params.imgIds = img_ids
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        results = average_precisions(precision, evaluation.params.iouThrs)
        self._logger.info("%s:\n%s", task, create_small_table(results))
        class_names = self._metadata.get("thing_classes")
        if class_names is None or len(class_names) <= 1:
            return results
        assert len(class_names) == precision.shape[2], f"{len(class_names)} names for {precision.shape[2]} categories"
        per_class = {
            f"AP-{name}": _percent(precision[:, :, k, _NO_AREA_LIMIT, -1]) for k, name in enumerate(class_names)
        }
        rows = [(name.removeprefix("AP-"), value) for name, value in per_class.items()]
        table = tabulate(rows, headers=["category", "AP"], tablefmt="pipe", floatfmt=".3f")
        self._logger.info("%s of each category:\n%s", task, table)
        return {**results, **per_class}
