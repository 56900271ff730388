"""From a config, or the name of a model, and a video to tubes; or frame by frame, while the video goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances

from vis_core.checkpoint import VideoCheckpointer
from vis_core.data import FrameSource, NetworkFrames, open_video, register_custom
from vis_core.data.frame_stream import FrameStream
from vis_core.data.loader import load_records
from vis_core.engine.build import config_errors
from vis_core.engine.classes import warn_of_unnamed_classes
from vis_core.engine.latency import Latency
from vis_core.errors import CheckpointError, ConfigError, DataError, VisError
from vis_core.tube import Tube

logger = logging.getLogger(__name__)


class VideoPredictor:
    """Runs a trained model over videos of any length, in the manner of Detectron2's DefaultPredictor.

    Frames are decoded ahead in a thread, go through the model in order and are dropped; masks leave it run-length
    encoded. Memory does not grow with the video but for the compressed masks, and not at all in :meth:`stream`.

    Example:
        >>> cfg = merge_config(projects.default_config(), "configs/masktrack_rcnn/shapesvis_tiny.yaml")
        >>> cfg.MODEL.WEIGHTS = "output/masktrack_rcnn/shapesvis_tiny/model_final.pth"
        >>> tubes = VideoPredictor(cfg)("my.mp4")
        >>> def camera():
        ...     capture = cv2.VideoCapture(0)
        ...     while (read := capture.read())[0]:
        ...         yield read[1][..., ::-1]  # BGR to RGB
        >>> for found in VideoPredictor("ctvis-r50-ytvis19").stream(camera()):
        ...     print(found.pred_ids, found.pred_boxes)

    Attributes:
        model: the network, in eval mode on ``MODEL.DEVICE``.
        class_names: of the data set the model was trained for, by ``Tube.category``.
    """

    def __init__(self, cfg: CfgNode | str):
        """Build the model and load ``MODEL.WEIGHTS``.

        Args:
            cfg: a config, or the alias of a model (``vis model list``) whose weights are in their place.

        Raises CheckpointError if no weights are named or there, or if they do not fill the whole model; ConfigError
        for an unknown alias, or a part of the model that is not known.
        """
        if isinstance(cfg, str):
            cfg = _config_of(cfg)
        if not cfg.MODEL.WEIGHTS:
            raise CheckpointError("no weights given: name a file with MODEL.WEIGHTS (vis predict: --weights)")
        self.cfg = cfg.clone()
        with config_errors(self.cfg):
            self.model = build_model(self.cfg).eval()
        VideoCheckpointer(self.model, require_all=True).load(cfg.MODEL.WEIGHTS)
        register_custom(cfg)
        key = "DATASETS.TEST" if cfg.DATASETS.TEST else "DATASETS.TRAIN"
        names = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN
        self.class_names: list[str] = _class_names(names[0], key) if names else []
        warn_of_unnamed_classes(self.cfg, self.model, self.class_names)

    @property
    def is_online(self) -> bool:
        """The model gives results while the video goes on: :meth:`stream` works."""
        return hasattr(self.model, "stream")

    def __call__(self, video, on_frame: Callable[[], None] | None = None) -> list[Tube]:
        """Tubes of one video.

        Args:
            video: a path (video file or folder of images), a list of image paths, a sequence of RGB uint8 arrays
                (H, W, 3), an open FrameSource, or an iterator over such arrays, of any length.
            on_frame: called each time the model is done with a frame.

        Raises DataError for a video that cannot be read, or for the number of a camera.
        """
        source = self._open(video)
        if isinstance(source, FrameStream) and not self.is_online:
            source = open_video(list(source))  # the model needs the whole video
        frames = self._network_frames(source)
        record = {
            "video_id": 1,
            "height": source.height,
            "width": source.width,
            "image": _Counted(frames, on_frame) if on_frame else frames,
        }
        if isinstance(source, FrameSource):
            record["length"] = len(source)
        with torch.no_grad():
            output = self.model([record])[0]
        if "tubes" not in output:
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE: {type(self.model).__name__} is a model of images, not of videos"
            )
        return output["tubes"]

    def stream(self, video) -> Stream:
        """One ``Instances`` a frame, as soon as it is known, of a video that need not have an end.

        Args:
            video: as for a call. An iterator's frames are asked for one by one, as the model needs them.

        Returns:
            A :class:`Stream`: iterate over it. The Instances are on the CPU, with pred_ids (N,) int64, pred_classes,
            scores, pred_masks (N, H, W) bool and pred_boxes at the video's own size. Classes and scores are the frame's
            own; those of tubes, and which of them are put out at all, are decided over the whole video.

        Raises ConfigError if the model needs the whole video at once; DataError for a video that cannot be read.
        """
        if not self.is_online:
            raise ConfigError(f"{type(self.model).__name__} needs the whole video at once: it cannot stream")
        source = self._open(video)
        latency = Latency()
        if isinstance(source, FrameStream):
            frames = self._network_frames(source, latency)
        else:  # read ahead: a frame arrives when the model takes it
            frames = latency.arriving(self._network_frames(source))
        results = self.model.stream(frames, source.height, source.width)
        return Stream(latency.leaving(found.to("cpu") for found in results), latency)

    def _open(self, video) -> FrameSource | FrameStream:
        if hasattr(video, "__iter__") and not hasattr(video, "__len__") and not isinstance(video, FrameStream):
            return FrameStream(video)
        if isinstance(video, int):
            raise DataError(
                f"video {video}: a camera is not opened by its number; pass an iterator of RGB frames that reads "
                "cv2.VideoCapture (help(VideoPredictor) shows one)"
            )
        return video if isinstance(video, (FrameSource, FrameStream)) else open_video(video)

    def _network_frames(self, source: FrameSource | FrameStream, latency: Latency | None = None) -> NetworkFrames:
        if isinstance(source, FrameSource):
            return NetworkFrames.from_config(self.cfg, source)
        arriving = source if latency is None else _Arriving(source, latency)
        return NetworkFrames.from_config(self.cfg, arriving, prefetch_frames=0)


class Stream:
    """Results of :meth:`VideoPredictor.stream`, an iterator. ``latency`` tells how long they took so far."""

    def __init__(self, results: Iterator[Instances], latency: Latency):
        self._results = results
        self.latency = latency

    def __iter__(self) -> Iterator[Instances]:
        return self

    def __next__(self) -> Instances:
        return next(self._results)


def _config_of(alias: str) -> CfgNode:
    import projects  # knows all models; fills the registries

    entry = projects.find_model(alias)
    cfg = entry.config()
    cfg.MODEL.WEIGHTS = str(entry.weights_file())
    return cfg


def _class_names(dataset_name: str, key: str) -> list[str]:
    """Classes of the data set in a config ``key``; none, with a warning, if it or its json is not there."""
    known = MetadataCatalog.get(dataset_name).get("thing_classes")
    if known:
        return list(known)
    try:
        load_records(dataset_name, key)
        return list(MetadataCatalog.get(dataset_name).thing_classes)
    except VisError as e:
        logger.warning("classes are shown as numbers: %s", e)
        return []


class _Arriving:
    """A stream of frames whose arrival is noted."""

    def __init__(self, source: FrameStream, latency: Latency):
        self._source = source
        self._latency = latency
        self.describe = source.describe

    def __iter__(self):
        return self._latency.arriving(self._source)


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
