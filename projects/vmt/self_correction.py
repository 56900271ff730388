"""Better masks for coarsely annotated training videos, by a model trained on them.

HQ-YTVIS was made so, in several rounds (Ke et al., ECCV 2022, arXiv 2207.14012); neither code nor thresholds were
released, so how agreement is measured is ours: a track takes over the masks of the prediction of its class that
overlaps it most, if their tube IoU is high enough, and keeps its own otherwise. One round:

    python train_net.py --config-file C --eval-only MODEL.WEIGHTS W DATASETS.TEST "('ytvis_2019_train',)" OUTPUT_DIR O
    python -m projects.vmt.self_correction train.json O/inference/results.json corrected.json

The result keeps everything of the first file and adds ``segmentations_refined`` to every track, which
``register_ytvis(..., mask_field="segmentations_refined")`` trains on.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vis_core.atomic import write_json
from vis_core.cli.failures import one_line_errors
from vis_core.data.annotation_file import read_annotation_file
from vis_core.data.formats.regions import annotation_rle
from vis_core.errors import DataError
from vis_core.evaluation import Results
from vis_core.evaluation.tube_iou import quotient, tube_sums
from vis_core.evaluation.tubes import decode_tubes

FIELD = "segmentations_refined"
THRESHOLD = 0.85

Masks = list[dict | None]  # one run-length mask a frame


def corrected(
    data: dict, results: Results | Sequence[dict] | str | os.PathLike, threshold: float = THRESHOLD
) -> tuple[dict, int]:
    """Annotations with a field ``segmentations_refined``, and how many tracks took over a prediction.

    A prediction serves one track at most, the one that it overlaps most. Where a track has no mask it gets none, and
    where its prediction has none it keeps its own.

    Args:
        data: YouTube-VIS json with annotations; stays as it is.
        results: of these videos, with the data set's own category ids: a file, read video by video, or its entries.
        threshold: tube IoU from which on a prediction is taken.

    Raises:
        DataError: results or masks cannot be used, or a prediction's number of frames is not its video's.
    """
    results = Results.load(results)
    videos = {video["id"]: video for video in data["videos"]}
    groups = defaultdict(list)
    for number, annotation in enumerate(data.get("annotations") or []):
        groups[annotation["video_id"], annotation["category_id"]].append(number)
    annotations = list(data.get("annotations") or [])
    count = 0
    for (video_id, category_id), numbers in groups.items():
        video = videos[video_id]
        tracks = [
            run_lengths(f"video {video_id}, annotation {own.get('id')}", own["segmentations"], video)
            for own in (annotations[number] for number in numbers)
        ]
        found = [
            run_lengths(f"{results.name}: entry {track.position}", track.segmentations, video)
            for track in results.tracks(video_id)
            if track.category_id == category_id
        ]
        length = len(tracks[0])
        if any(len(masks) != length for masks in found):
            raise DataError(f"{results.name}: video {video_id}: a prediction has not {length} frames, as the video has")
        choice = best_pairs(tube_ious(found, tracks), threshold)
        count += len(choice)
        for row, (number, own) in enumerate(zip(numbers, tracks)):
            better = found[choice[row]] if row in choice else own
            masks = [mask and (other or mask) for mask, other in zip(own, better)]
            annotations[number] = {**annotations[number], FIELD: masks}
    return {**data, "annotations": annotations}, count


def run_lengths(where: str, masks: Sequence[dict | list | None], video: dict) -> Masks:
    """A track's masks in any spelling of COCO's, polygons drawn; None for those without a pixel.

    Raises:
        DataError: names ``where``; something that is no mask of the video's size.
    """
    size = (video["height"], video["width"])
    return [annotation_rle(where, "segmentations", mask, *size) if mask else None for mask in masks]


def tube_ious(predictions: Sequence[Masks], tracks: Sequence[Masks]) -> np.ndarray:
    """(predictions, tracks) float64."""
    decoded = [
        decode_tubes(masks, lambda n, name=name: f"{name} {n}")
        for masks, name in ((predictions, "prediction"), (tracks, "track"))
    ]
    sums = tube_sums(*decoded, *(np.array([0, len(masks)]) for masks in (predictions, tracks)))
    return quotient(*sums).reshape(len(predictions), len(tracks))


def best_pairs(ious: np.ndarray, threshold: float) -> dict[int, int]:
    """Track -> prediction, the best pair first, each once, as long as they overlap by ``threshold``."""
    ious = ious.copy()
    pairs = {}
    while ious.size and ious.max() >= threshold:
        prediction, track = np.unravel_index(ious.argmax(), ious.shape)
        pairs[int(track)] = int(prediction)
        ious[prediction], ious[:, track] = -1, -1
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description="Annotations with masks that a trained model improved.")
    parser.add_argument("annotations", type=Path, help="YouTube-VIS json of the training videos")
    parser.add_argument("results", type=Path, help="results.json of the model on these videos")
    parser.add_argument("output", type=Path, help="json to be written")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="tube IoU from which on a prediction is taken"
    )
    args = parser.parse_args()
    data, count = corrected(read_annotation_file(args.annotations, "ytvis"), args.results, args.threshold)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(data, args.output)
    print(f"{args.output}: {count} of {len(data['annotations'])} tracks take over a prediction's masks")


if __name__ == "__main__":
    with one_line_errors():
        main()
