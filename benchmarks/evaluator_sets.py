"""Synthetic ground truth and results at 720p for the evaluator benchmark: deforming blobs, written as json files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vis_core.rle import encode_changes

HEIGHT, WIDTH = 720, 1280


@dataclass(frozen=True)
class SetSize:
    """``share`` of the detections get the class of one of the video's objects."""

    videos: int
    frames: tuple[int, int]
    objects: tuple[int, int]
    detections: int
    categories: int
    share: float


YTVIS_LIKE = SetSize(videos=300, frames=(24, 36), objects=(1, 4), detections=20, categories=40, share=0.6)
OVIS_LIKE = SetSize(videos=20, frames=(40, 80), objects=(4, 9), detections=30, categories=25, share=0.85)


def write_set(size: SetSize, folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write ``gt.json`` and ``results.json``; returns their paths."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    gt_file, results_file = folder / "gt.json", folder / "results.json"
    gt = {
        "videos": [],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(size.categories)],
        "annotations": [],
    }
    with open(results_file, "w") as out:
        separator = "["
        for video_id in range(1, size.videos + 1):
            length = int(rng.integers(size.frames[0], size.frames[1] + 1))
            gt["videos"].append({"id": video_id, "height": HEIGHT, "width": WIDTH, "length": length, "file_names": []})
            blobs = [blob(rng, length) for _ in range(rng.integers(size.objects[0], size.objects[1] + 1))]
            classes = rng.choice(rng.integers(1, size.categories + 1, 2), len(blobs))
            for shape, category in zip(blobs, classes):
                masks, areas = draw(shape)
                gt["annotations"].append(
                    {
                        "id": len(gt["annotations"]) + 1,
                        "video_id": video_id,
                        "category_id": int(category),
                        "iscrowd": 0,
                        "segmentations": masks,
                        "areas": areas,
                    }
                )
            for _ in range(size.detections):
                near = int(rng.integers(len(blobs)))
                shape = jitter(rng, blobs[near]) if rng.random() < 0.7 else blob(rng, length)
                same = rng.random() < size.share
                entry = {
                    "video_id": video_id,
                    "category_id": int(classes[near]) if same else int(rng.integers(1, size.categories + 1)),
                    "score": float(rng.random()),
                    "segmentations": draw(shape)[0],
                }
                out.write(separator + json.dumps(entry))
                separator = ",\n"
        out.write("]")
    gt_file.write_text(json.dumps(gt))
    return gt_file, results_file


def blob(rng: np.random.Generator, length: int) -> dict:
    """A drifting outline: per frame centre and radii, plus waves along the upper and the lower edge."""
    radius = 40 * (330 / 40) ** rng.random()
    start = rng.uniform(0.2, 0.8, 2) * (WIDTH, HEIGHT)
    speed = rng.normal(0, 2, 2)
    time = np.arange(length)[:, None]
    return {
        "centre": start + speed * time,  # (T, 2)
        "radii": radius * (1 + 0.1 * np.sin(0.2 * time + rng.random(2) * 6)),  # (T, 2)
        "waves": rng.random((2, 3, 3)) * (0.2, 12, 6),  # amplitude, frequency, phase of three waves on either edge
        "missing": rng.random(length) < 0.05,
        "seed": int(rng.integers(2**31)),
    }


def jitter(rng: np.random.Generator, shape: dict) -> dict:
    """The same object as a tracker might find it."""
    return {
        **shape,
        "centre": shape["centre"] + rng.normal(0, 0.06, 2) * shape["radii"],
        "radii": shape["radii"] * rng.normal(1, 0.06, 2),
        "missing": rng.random(len(shape["missing"])) < 0.05,
        "seed": int(rng.integers(2**31)),
    }


def draw(shape: dict) -> tuple[list[dict | None], list[int | None]]:
    """RLEs and areas per frame, null where the blob is missing or out of sight. Edges are rough by a pixel."""
    masks, areas = [], []
    rng = np.random.default_rng(shape["seed"])
    for centre, radii, missing in zip(shape["centre"], shape["radii"], shape["missing"]):
        columns = np.arange(max(0, int(centre[0] - radii[0])), min(WIDTH, int(centre[0] + radii[0])))
        across = (columns - centre[0]) / radii[0]
        half = radii[1] * np.sqrt(np.maximum(0, 1 - across**2))
        amplitude, frequency, phase = np.moveaxis(shape["waves"], 2, 0)[..., None]  # each (2, 3, 1)
        edge = half * (1 + (amplitude * np.sin(frequency * across + phase)).sum(axis=1))  # (2, columns)
        edge += rng.integers(-1, 2, edge.shape)
        top = np.clip(centre[1] - edge[0], 0, HEIGHT).astype(np.int64)
        bottom = np.clip(centre[1] + edge[1], 0, HEIGHT).astype(np.int64)
        inside = bottom > top
        area = int((bottom - top)[inside].sum())
        if missing or area == 0:
            masks.append(None)
            areas.append(None)
            continue
        changes = (columns * HEIGHT + np.stack([top, bottom])).T[inside].ravel()
        # A blob that fills two columns' touching ends is one run.
        touching = np.flatnonzero(changes[1:-1:2] == changes[2::2])
        changes = np.delete(changes, np.concatenate([2 * touching + 1, 2 * touching + 2]))
        if changes[-1] == HEIGHT * WIDTH:
            changes = changes[:-1]
        masks.append({"size": [HEIGHT, WIDTH], "counts": encode_changes(changes, HEIGHT * WIDTH)})
        areas.append(area)
    return masks, areas
