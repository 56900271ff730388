"""From a config and a video to tubes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from vis_core.checkpoint import VideoCheckpointer
from vis_core.data import FrameSource, NetworkFrames, dataset_metadata, open_video
from vis_core.errors import CheckpointError, VisError
from vis_core.tube import Tube

logger = logging.getLogger(__name__)


class VideoPredictor:
    """Runs a trained model over videos of any length, in the manner of Detectron2's DefaultPredictor.

    Frames are decoded ahead in a thread, go through the model in order and are dropped; masks leave it run-length
    encoded. Memory does not grow with the video but for the compressed masks.

    Example:
        >>> cfg = merge_config(projects.default_config(), "configs/masktrack_rcnn/shapesvis_tiny.yaml")
        >>> cfg.MODEL.WEIGHTS = "output/model_final.pth"
        >>> tubes = VideoPredictor(cfg)("my.mp4")

    Attributes:
        model: the network, in eval mode on ``MODEL.DEVICE``.
        class_names: of the data set the model was trained for, by ``Tube.category``.
    """

    def __init__(self, cfg: CfgNode):
        """Build the model and load ``MODEL.WEIGHTS``.

        Raises CheckpointError if no weights are named, or if they do not fill the whole model.
        """
        if not cfg.MODEL.WEIGHTS:
            raise CheckpointError("no weights given: name a file with MODEL.WEIGHTS (vis predict: --weights)")
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        VideoCheckpointer(self.model, require_all=True).load(cfg.MODEL.WEIGHTS)
        names = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN
        self.class_names: list[str] = _class_names(names[0]) if names else []

    def __call__(self, video, on_frame: Callable[[], None] | None = None) -> list[Tube]:
        """Tubes of one video.

        Args:
            video: a path (video file or folder of images), a list of image paths, a sequence of RGB uint8 arrays
                (H, W, 3), or an open FrameSource.
            on_frame: called each time the model is done with a frame.

        Raises DataError for a video that cannot be read.
        """
        source = video if isinstance(video, FrameSource) else open_video(video)
        frames = NetworkFrames.from_config(self.cfg, source)
        record = {
            "video_id": 1,
            "height": source.height,
            "width": source.width,
            "length": len(source),
            "image": _Counted(frames, on_frame) if on_frame else frames,
        }
        with torch.no_grad():
            return self.model([record])[0]["tubes"]


def _class_names(dataset_name: str) -> list[str]:
    """Classes of a data set; none if its names stand in a json that is not there."""
    known = MetadataCatalog.get(dataset_name).get("thing_classes")
    if known:
        return list(known)
    try:
        return list(dataset_metadata(dataset_name).thing_classes)
    except VisError as e:
        logger.warning("classes are shown as numbers: %s", e)
        return []


class _Counted:
    """The frames, telling when the model comes back for the next one."""

    def __init__(self, frames, on_frame: Callable[[], None]):
        self._frames = frames
        self._on_frame = on_frame

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index):
        return self._frames[index]

    def __iter__(self):
        for frame in self._frames:
            yield frame
            self._on_frame()
