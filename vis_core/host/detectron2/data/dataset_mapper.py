"""From a dataset record to a model's input."""

import copy
import logging

import numpy as np
import torch
from detectron2.config import configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Read the image of a record, augment image and annotations together, and turn them into tensors."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        instance_mask_format: str = "polygon",
        recompute_boxes: bool = False,
    ):
        """
        Args:
            is_train: whether annotations are wanted.
            augmentations: applied in this order.
            image_format: see :func:`detection_utils.read_image`.
            use_instance_mask: whether to give ``gt_masks``.
            instance_mask_format: "polygon" or "bitmask".
            recompute_boxes: take boxes from the augmented masks, which are tighter than augmented boxes after a crop.
        """
        assert use_instance_mask or not recompute_boxes, "boxes can only be recomputed from masks"
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info("Augmentations in %s: %s", mode, augmentations)

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict:
        if cfg.MODEL.KEYPOINT_ON or cfg.MODEL.LOAD_PROPOSALS:
            raise ImportError(
                "MODEL.KEYPOINT_ON and MODEL.LOAD_PROPOSALS are not in the bundled subset of detectron2; "
                "install the official package"
            )
        augmentations = utils.build_augmentation(cfg, is_train)
        cropped = cfg.INPUT.CROP.ENABLED and is_train
        if cropped:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "recompute_boxes": cropped and cfg.MODEL.MASK_ON,
        }

    def _transform_annotations(self, dataset_dict: dict, transforms: T.Transform, image_shape: tuple[int, int]) -> None:
        """Replace ``annotations`` by ``instances``; crowds and what the augmentation removed are dropped."""
        for annotation in dataset_dict["annotations"]:
            annotation.pop("keypoints", None)
            if not self.use_instance_mask:
                annotation.pop("segmentation", None)
        annotations = [
            utils.transform_instance_annotations(annotation, transforms, image_shape)
            for annotation in dataset_dict.pop("annotations")
            if annotation.get("iscrowd", 0) == 0
        ]
        instances = utils.annotations_to_instances(annotations, image_shape, mask_format=self.instance_mask_format)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: a record; it is not changed.

        Returns:
            The record with ``image``, a uint8 tensor (C, h, w), and in training ``instances`` for ``annotations``.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(dataset_dict, image)
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        image_shape = aug_input.image.shape[:2]
        dataset_dict["image"] = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image_shape)
        return dataset_dict
