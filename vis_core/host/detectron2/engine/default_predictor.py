"""Runs a detector on single images."""

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model


class DefaultPredictor:
    """A config's model with the weights of MODEL.WEIGHTS, for one image at a time.

    Attributes:
        cfg: a copy of the config.
        model: in evaluation mode.
        metadata: of the first data set of DATASETS.TEST, if there is one.
        aug: the resizing of INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST.
        input_format: "RGB" or "BGR", what the model wants.
    """

    def __init__(self, cfg):
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg)
        self.model.eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self.aug = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise AssertionError(f"INPUT.FORMAT must be RGB or BGR, got {self.input_format}")

    def __call__(self, original_image: np.ndarray) -> dict:
        """The model's output for one image.

        Args:
            original_image: (H, W, 3) uint8 in BGR order.
        """
        height, width = original_image.shape[:2]
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        image = self.aug.get_transform(image).apply_image(image)
        # (h, w, 3) → (3, h, w)
        tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
        with torch.no_grad():
            return self.model([{"image": tensor, "height": height, "width": width}])[0]
