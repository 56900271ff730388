"""Detectron2 evaluator for DAVIS: palette PNGs of the results, and J and F of the unsupervised task."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from vis_core.data.label_maps import write_label_map
from vis_core.errors import ConfigError, DataError
from vis_core.evaluation.davis import Scores, frame_scores, match, statistics
from vis_core.tube import Tube, decode_mask

logger = logging.getLogger(__name__)

MAX_PROPOSALS = 20  # of the challenge, a video
OBJECT_RULES = ("first_frame", "any_frame")
MEASURES = ("J", "F")
STATISTICS = ("Mean", "Recall", "Decay")


class DavisEvaluator(DatasetEvaluator):
    """Turns each video's tubes into label maps, saves these, and compares them with the ground truth.

    The tubes of a video, best score first and at most ``max_proposals``, get the labels 1, 2, ...; where two overlap
    the better one wins. Ground truth are the masks of the data set's records; crowd regions are void. Objects that are
    first seen after the first frame do not count, as in the challenge's evaluation code, unless the data set's metadata
    has ``davis_objects = "any_frame"``.

    Args:
        dataset_name: registered data set of videos.
        distributed: gather from all processes; False: evaluate what this process saw.
        output_dir: gets ``davis/<video>/<frame>.png``, named after the frames' files, whose folders' names must differ;
            None: nothing is written.

    :meth:`evaluate` returns ``{"davis_uvos": {"J&F", "J-Mean", "J-Recall", "J-Decay", "F-Mean", ...}}`` in percent,
    means over all objects of all videos, on the main process, and ``{}`` elsewhere or without ground truth.
    """

    def __init__(
        self,
        dataset_name: str,
        max_proposals: int = MAX_PROPOSALS,
        distributed: bool = True,
        output_dir: str | None = None,
    ) -> None:
        self._name = dataset_name
        self._max_proposals = max_proposals
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._rule = MetadataCatalog.get(dataset_name).get("davis_objects", "first_frame")
        if self._rule not in OBJECT_RULES:
            raise ConfigError(
                f"data set '{dataset_name}': davis_objects '{self._rule}' is not one of {list(OBJECT_RULES)}"
            )
        self._records: dict[int, dict] = {}
        self._objects: list[dict] = []

    def reset(self) -> None:
        self._records = {record["video_id"]: record for record in DatasetCatalog.get(self._name)}
        self._objects = []
        if self._output_dir is not None:
            self._check_folders()

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Save and compare the tubes of one batch: per video one test dict and one ``{"tubes": [Tube]}``."""
        for video, output in zip(inputs, outputs):
            if video["video_id"] not in self._records:
                raise DataError(f"data set '{self._name}' has no video {video['video_id']}")
            tubes = sorted(output["tubes"], key=lambda tube: -tube.score)[: self._max_proposals]
            self._objects += self._process_video(self._records[video["video_id"]], tubes)

    def evaluate(self) -> dict:
        objects = self._objects
        if self._distributed:
            comm.synchronize()
            objects = list(chain.from_iterable(comm.gather(objects, dst=0)))
            if not comm.is_main_process():
                return {}
        if not objects:
            logger.warning("Data set '%s' comes without ground truth: there is no J and F to compute.", self._name)
            return {}
        scores = summary(objects)
        logger.info(
            "J and F of '%s', %d objects: %s",
            self._name,
            len(objects),
            ", ".join(f"{name} {value:.2f}" for name, value in scores.items()),
        )
        return {"davis_uvos": scores}

    def _process_video(self, record: dict, tubes: list[Tube]) -> list[dict]:
        where = f"data set '{self._name}', video {record['video_id']}"
        size = record["height"], record["width"]
        for tube in tubes:
            if len(tube) != record["length"]:
                raise ValueError(f"{where}: a tube has {len(tube)} frames, the video has {record['length']}")
        ids = self._object_ids(record, where)
        num_proposals = max(len(tubes), len(ids))
        frames = []
        for t in range(record["length"]):
            predicted = proposal_labels(tubes, t, size)
            if self._output_dir is not None:
                write_label_map(self._path(record["file_names"][t]), predicted)
            if ids:
                truth, void = object_labels(record["annotations"][t], ids, size)
                frames.append(frame_scores(truth, predicted, len(ids), num_proposals, void))
        if not ids:
            return []
        matched, proposals = match(Scores.stack(frames))
        return [
            {
                "video_id": record["video_id"],
                "object": object_id,
                "proposal": int(proposal) + 1 if proposal < len(tubes) else None,
                "J": statistics(region),
                "F": statistics(boundary),
            }
            for object_id, proposal, region, boundary in zip(ids, proposals, matched.region, matched.boundary)
        ]

    def _object_ids(self, record: dict, where: str) -> list[int]:
        frames = [{obj["id"] for obj in objects if not obj["iscrowd"]} for objects in record["annotations"]]
        ids = sorted(set().union(*frames))
        if self._rule == "any_frame":
            return ids
        last = max(frames[0], default=-1)
        late = [i for i in ids if i > last]
        if late:
            logger.warning("%s: %d objects appear after the first frame and do not count", where, len(late))
        return ids[: len(ids) - len(late)]

    def _check_folders(self) -> None:
        """Raise DataError if label maps would be written elsewhere than below ``output_dir``, or over each other."""
        taken: dict[str, tuple[Path, int]] = {}
        for video_id, record in self._records.items():
            for folder in {Path(name).parent for name in record["file_names"]}:
                where = f"data set '{self._name}', video {video_id}: folder {folder}"
                if folder.name == "..":
                    raise DataError(f"{where} has no name of its own to write label maps under")
                other, other_id = taken.setdefault(folder.name, (folder, video_id))
                if other != folder:
                    raise DataError(f"{where} is called like {other} of video {other_id}: their label maps would mix")

    def _path(self, frame: str) -> Path:
        frame = Path(frame)
        return self._output_dir / "davis" / frame.parent.name / f"{frame.stem}.png"


def proposal_labels(tubes: Sequence[Tube], frame: int, size: tuple[int, int]) -> np.ndarray:
    """Label map uint8 (H, W): k + 1 where tube k is the first to cover the pixel. At most 254 tubes."""
    labels = np.zeros(size, dtype=np.uint8)
    for k in reversed(range(len(tubes))):
        rle = tubes[k].segmentations[frame]
        if rle is not None:
            labels[decode_mask(rle)] = k + 1
    return labels


def object_labels(objects: Sequence[dict], ids: Sequence[int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Label map int64 (H, W) of one frame's annotations, position in ``ids`` + 1, and void bool (H, W)."""
    labels, void = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    places = {object_id: k + 1 for k, object_id in enumerate(ids)}
    for obj in objects:
        if obj["iscrowd"]:
            void |= decode_mask(obj["segmentation"])
        elif obj["id"] in places:
            labels[decode_mask(obj["segmentation"])] = places[obj["id"]]
    return labels, void


def summary(objects: Sequence[dict]) -> dict[str, float]:
    """Means over objects in percent; an object is a dict with the statistics of "J" and of "F"."""
    scores = {
        f"{measure}-{name}": 100 * math.fsum(obj[measure][name] for obj in objects) / len(objects)
        for measure in MEASURES
        for name in STATISTICS
    }
    return {"J&F": (scores["J-Mean"] + scores["F-Mean"]) / 2, **scores}
