"""Tube AP as a textbook writes it, for comparison: two pycocotools merges and areas per pair of tubes and frame.

The rules are those of docs/evaluation.md section 1; nothing is shared between pairs, groups or thresholds. It expects
well-formed input: compressed RLEs, equal lengths and sizes.
"""

from __future__ import annotations

import numpy as np
import pycocotools.mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
LIMITS = (1, 10, 100)
RANGES = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))


def evaluate(gt: dict, results: list[dict]) -> dict[str, np.ndarray]:
    """Arrays ``precision``, ``recall`` and ``scores`` of the YouTube-VIS metric."""
    video_ids = sorted(video["id"] for video in gt["videos"])
    category_ids = sorted(category["id"] for category in gt["categories"])
    objects, detections = _by_group(gt["annotations"]), _by_group(results)
    for group in detections.values():
        group.sort(key=lambda track: -track["score"])
        del group[LIMITS[-1] :]
    ious = {key: _ious(detections.get(key, []), objects.get(key, [])) for key in objects.keys() | detections.keys()}

    shape = (len(THRESHOLDS), len(RECALLS), len(category_ids), len(RANGES), len(LIMITS))
    arrays = {
        "precision": np.full(shape, -1.0),
        "recall": np.full((shape[0], *shape[2:]), -1.0),
        "scores": np.full(shape, -1.0),
    }
    for k, category in enumerate(category_ids):
        for a, area_range in enumerate(RANGES):
            keys = [(video, category) for video in video_ids]
            groups = [_match(detections.get(key, []), objects.get(key, []), ious.get(key), area_range) for key in keys]
            for m, limit in enumerate(LIMITS):
                _accumulate([group for group in groups if group is not None], limit, arrays, k, a, m)
    return arrays


def _by_group(tracks: list[dict]) -> dict[tuple[int, int], list[dict]]:
    groups: dict[tuple[int, int], list[dict]] = {}
    for track in tracks:
        areas = [int(coco_mask.area(rle)) for rle in track["segmentations"] if rle is not None]
        areas = [area for area in areas if area > 0]
        copy = {**track, "average": float(np.mean(areas)) if areas else 0.0}
        if "areas" in track:
            given = [area for area in track["areas"] if area]
            copy["average"] = float(np.mean(given)) if given else 0.0
        groups.setdefault((track["video_id"], track["category_id"]), []).append(copy)
    return groups


def _ious(detections: list[dict], objects: list[dict]) -> np.ndarray:
    ious = np.zeros((len(detections), len(objects)))
    for d, detection in enumerate(detections):
        for g, truth in enumerate(objects):
            common, total = 0.0, 0.0
            for a, b in zip(detection["segmentations"], truth["segmentations"]):
                if a is not None and b is not None:
                    common += coco_mask.area(coco_mask.merge([a, b], intersect=True))
                    total += coco_mask.area(coco_mask.merge([a, b], intersect=False))
                elif a is not None or b is not None:
                    total += coco_mask.area(a if a is not None else b)
            ious[d, g] = common / total if total > 0 else 0.0
    return ious


def _match(detections: list[dict], objects: list[dict], ious: np.ndarray | None, area_range: tuple):
    """Of one group: scores (D,), matched and ignored (S, D), number of objects that count; None for an empty group."""
    if not detections and not objects:
        return None
    low, high = area_range
    ignored = [bool(truth["iscrowd"]) or truth["average"] < low or truth["average"] > high for truth in objects]
    order = sorted(range(len(objects)), key=lambda g: ignored[g])
    matched = np.zeros((len(THRESHOLDS), len(detections)), bool)
    d_ignored = np.zeros_like(matched)
    for s, threshold in enumerate(THRESHOLDS):
        taken: set[int] = set()
        for d, detection in enumerate(detections):
            best, match = min(threshold, 1 - 1e-10), None
            for g in order:
                if g in taken and not objects[g]["iscrowd"]:
                    continue
                if match is not None and not ignored[match] and ignored[g]:
                    break
                if ious[d, g] >= best:
                    best, match = ious[d, g], g
            if match is not None:
                taken.add(match)
                matched[s, d] = True
                d_ignored[s, d] = ignored[match]
            else:
                d_ignored[s, d] = detection["average"] < low or detection["average"] > high
    return np.array([track["score"] for track in detections]), matched, d_ignored, len(ignored) - sum(ignored)


def _accumulate(groups: list, limit: int, arrays: dict[str, np.ndarray], k: int, a: int, m: int) -> None:
    count = sum(group[3] for group in groups)
    if count == 0:
        return
    scores = np.concatenate([group[0][:limit] for group in groups])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([group[1][:, :limit] for group in groups], axis=1)[:, order]
    ignored = np.concatenate([group[2][:, :limit] for group in groups], axis=1)[:, order]
    tp = np.cumsum(matched & ~ignored, axis=1).astype(float)
    fp = np.cumsum(~matched & ~ignored, axis=1).astype(float)
    for s in range(len(THRESHOLDS)):
        recall = tp[s] / count
        precision = tp[s] / (fp[s] + tp[s] + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, RECALLS, side="left")
        inside = at < len(recall)
        arrays["recall"][s, k, a, m] = recall[-1] if len(recall) else 0
        arrays["precision"][s, :, k, a, m] = 0
        arrays["scores"][s, :, k, a, m] = 0
        arrays["precision"][s, inside, k, a, m] = precision[at[inside]]
        arrays["scores"][s, inside, k, a, m] = scores[order][at[inside]]
