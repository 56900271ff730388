"""Records of registered datasets, filtered and counted."""

import itertools
import logging

import numpy as np
from detectron2.utils.logger import log_first_n
from tabulate import tabulate

from .catalog import DatasetCatalog, MetadataCatalog
from .detection_utils import check_metadata_consistency

__all__ = [
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "print_instances_class_histogram",
]


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Records that have an annotation which is not a crowd."""
    kept = [d for d in dataset_dicts if any(a.get("iscrowd", 0) == 0 for a in d["annotations"])]
    message = "%d of %d images have annotations to train on; the others are left out"
    logging.getLogger(__name__).info(message, len(kept), len(dataset_dicts))
    return kept


def filter_images_with_few_keypoints(dataset_dicts: list[dict], min_keypoints_per_image: int) -> list[dict]:
    """Records with at least that many labelled keypoints."""

    def labelled(record: dict) -> int:
        visibilities = (a["keypoints"][2::3] for a in record["annotations"] if "keypoints" in a)
        return sum(v > 0 for v in itertools.chain.from_iterable(visibilities))

    kept = [d for d in dataset_dicts if labelled(d) >= min_keypoints_per_image]
    message = "%d of %d images have at least %d keypoints; the others are left out"
    logging.getLogger(__name__).info(message, len(kept), len(dataset_dicts), min_keypoints_per_image)
    return kept


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log how many instances (crowds not counted) each class has; once for the same text.

    Raises:
        AssertionError: a category id is not in [0, number of classes).
    """
    classes = [a["category_id"] for d in dataset_dicts for a in d["annotations"] if a.get("iscrowd", 0) == 0]
    assert all(0 <= c < len(class_names) for c in classes), (
        f"category ids {min(classes)} to {max(classes)} do not fit {len(class_names)} classes"
    )
    counts = np.bincount(np.asarray(classes, dtype=np.int64), minlength=len(class_names))
    cells = [(name[:13], int(n)) for name, n in zip(class_names, counts)] + [("total", len(classes))]
    columns = min(3, len(cells))
    rows = [sum(cells[i : i + columns], ()) for i in range(0, len(cells), columns)]
    table = tabulate(rows, headers=["category", "#instances"] * columns, tablefmt="pipe", stralign="center")
    log_first_n(logging.INFO, f"Instances of {len(class_names)} categories:\n{table}", key="message")


def get_detection_dataset_dicts(
    names: str | list[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: list[str] | None = None,
    check_consistency: bool = True,
) -> list[dict]:
    """Records of one or several registered datasets, in sequence.

    Args:
        filter_empty: leave out images without annotations, or with crowds only.
        min_keypoints: leave out images with fewer labelled keypoints.
        proposal_files: not in this subset (ImportError).
        check_consistency: require equal ``thing_classes`` where the datasets have them (ValueError otherwise).
    """
    if proposal_files is not None:
        raise ImportError("precomputed proposals are not in the bundled subset of detectron2; install the official one")
    names = [names] if isinstance(names, str) else names
    assert len(names), "no dataset is named (DATASETS.TRAIN or DATASETS.TEST of the config)"
    per_dataset = [DatasetCatalog.get(name) for name in names]
    for name, records in zip(names, per_dataset):
        assert len(records), f"dataset '{name}' has no records"
    dataset_dicts = list(itertools.chain.from_iterable(per_dataset))

    annotated = "annotations" in dataset_dicts[0]
    if filter_empty and annotated:
        dataset_dicts = filter_images_with_only_crowd_annotations(dataset_dicts)
    if min_keypoints > 0 and annotated:
        dataset_dicts = filter_images_with_few_keypoints(dataset_dicts, min_keypoints)
    classes_known = all(MetadataCatalog.get(name).get("thing_classes") is not None for name in names)
    if check_consistency and annotated and classes_known:
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(dataset_dicts, MetadataCatalog.get(names[0]).thing_classes)
    assert dataset_dicts, f"no image of {', '.join(names)} has annotations to train on"
    return dataset_dicts
