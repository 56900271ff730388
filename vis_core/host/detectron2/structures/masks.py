"""Instance masks as bitmaps, as polygons, and within boxes. Symbols: N instances, H, W image size, S mask size."""

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.roi_align import ROIAlign
from torch import Tensor

from .boxes import Boxes


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(H, W) bool: the union of polygons, each a flat array x0, y0, x1, y1, …, rasterised by COCO's rule."""
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    rle = mask_util.merge(mask_util.frPyObjects(polygons, height, width))
    return mask_util.decode(rle).astype(bool)


def rasterize_polygons_within_box(polygons: list[np.ndarray], box: np.ndarray, mask_size: int) -> Tensor:
    """(S, S) bool: the part of the polygons inside ``box`` (x0, y0, x1, y1), stretched to the mask's size."""
    x0, y0, x1, y1 = box
    # A box without area must not make the factor infinite.
    scale = np.array([mask_size / max(x1 - x0, 0.1), mask_size / max(y1 - y0, 0.1)])
    corner = np.array([x0, y0])
    moved = [((p.reshape(-1, 2) - corner) * scale).reshape(-1) for p in polygons]
    return torch.from_numpy(polygons_to_bitmask(moved, mask_size, mask_size))


class BitMasks:
    """N masks of an image's size: ``.tensor`` is bool (N, H, W)."""

    def __init__(self, tensor):
        """
        Args:
            tensor: (N, H, W) tensor or array; non-zero is inside.
        """
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.bool)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.bool, device="cpu")
        assert tensor.dim() == 3, f"masks must be (N, H, W), got {tuple(tensor.shape)}"
        self.tensor = tensor
        self.image_size = tuple(tensor.shape[1:])

    def to(self, *args, **kwargs) -> "BitMasks":
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __getitem__(self, item) -> "BitMasks":
        """Masks at an int (one mask), a slice, or a bool or integer tensor."""
        if isinstance(item, int):
            return BitMasks(self.tensor[item].unsqueeze(0))
        selected = self.tensor[item]
        assert selected.dim() == 3, f"index {item} does not select masks"
        return BitMasks(selected)

    def __iter__(self):
        """One (H, W) tensor after the other."""
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def nonempty(self) -> Tensor:
        """(N,) bool"""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(polygon_masks, height: int, width: int) -> "BitMasks":
        """Rasterise a PolygonMasks, or a list of lists of polygons."""
        if isinstance(polygon_masks, PolygonMasks):
            polygon_masks = polygon_masks.polygons
        masks = [polygons_to_bitmask(p, height, width) for p in polygon_masks]
        return BitMasks(np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """(N, S, S) bool: each mask cropped to its own box (N, 4) and resampled by RoIAlign (Mask R-CNN's targets)."""
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
        rois = torch.cat([index, boxes], dim=1).to(self.device)  # (N, 5)
        align = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        return align(self.tensor[:, None].float(), rois).squeeze(1) >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes [min x, min y, max x + 1, max y + 1]; zeros for an empty mask."""
        x0, x1 = _extent(self.tensor.any(dim=1))
        y0, y1 = _extent(self.tensor.any(dim=2))
        return Boxes(torch.stack([x0, y0, x1, y1], dim=1))

    @staticmethod
    def cat(bitmasks_list: list["BitMasks"]) -> "BitMasks":
        assert isinstance(bitmasks_list, list | tuple) and len(bitmasks_list) > 0
        assert all(isinstance(m, BitMasks) for m in bitmasks_list)
        return BitMasks(torch.cat([m.tensor for m in bitmasks_list], dim=0))


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First, and last plus one, true position of each row of (N, L); 0, 0 for a row without any."""
    n, length = occupied.shape
    position = torch.arange(length, device=occupied.device)
    start = torch.where(occupied, position, length).amin(dim=1) if length else position.new_zeros(n)
    stop = torch.where(occupied, position + 1, 0).amax(dim=1) if length else position.new_zeros(n)
    return torch.minimum(start, stop), stop


class PolygonMasks:
    """N masks, each a list of polygons; a polygon is a flat float64 array x0, y0, x1, y1, … in pixels."""

    def __init__(self, polygons: list[list]):
        """
        Args:
            polygons: for each instance a list of polygons (arrays, tensors or lists of numbers).

        Raises:
            ValueError: for other nesting, and for a polygon of an odd number of values or of fewer than 6.
        """
        if not isinstance(polygons, list):
            raise ValueError(f"polygons must be a list of lists of polygons, got {type(polygons).__name__}")
        self.polygons: list[list[np.ndarray]] = [_checked_polygons(instance) for instance in polygons]

    def to(self, *args, **kwargs) -> "PolygonMasks":
        """Polygons stay on the CPU."""
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes around the corners of each instance; (inf, inf, 0, 0), which is empty, for one without polygons.

        The high sides are at least 0.
        """
        boxes = torch.zeros(len(self), 4, dtype=torch.float32)
        for box, polygons in zip(boxes, self.polygons):
            corners = torch.from_numpy(np.concatenate(polygons).reshape(-1, 2)) if polygons else torch.zeros(0, 2)
            box[:2] = corners.amin(dim=0) if len(corners) else torch.inf
            box[2:] = corners.amax(dim=0).clamp(min=0) if len(corners) else 0
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """(N,) bool"""
        return torch.tensor([len(p) > 0 for p in self.polygons], dtype=torch.bool)

    def __getitem__(self, item) -> "PolygonMasks":
        """Masks at an int (one mask), a slice, a list of ints, or a bool or integer tensor."""
        if isinstance(item, int):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        if isinstance(item, Tensor | np.ndarray):
            item = torch.as_tensor(item)
            if item.dtype == torch.bool:
                assert item.shape == (len(self),), f"{tuple(item.shape)} bools for {len(self)} masks"
                item = item.nonzero().squeeze(1)
            elif item.dtype not in (torch.int32, torch.int64):
                raise ValueError(f"cannot index with a tensor of {item.dtype}")
            item = item.tolist()
        return PolygonMasks([self.polygons[i] for i in item])

    def __iter__(self):
        """One list of polygons after the other."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """(N, S, S) bool on the boxes' device: each mask cropped to its own box (N, 4) and rasterised (Mask R-CNN's
        targets)."""
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        masks = [
            rasterize_polygons_within_box(polygons, box, mask_size)
            for polygons, box in zip(self.polygons, boxes.detach().cpu().numpy())
        ]
        if not masks:
            return torch.empty(0, mask_size, mask_size, dtype=torch.bool, device=boxes.device)
        return torch.stack(masks).to(boxes.device)

    def area(self) -> Tensor:
        """(N,) sum of the polygons' areas (shoelace formula); overlaps count twice."""
        return torch.tensor([sum((_polygon_area(p) for p in polygons), 0.0) for polygons in self.polygons])

    @staticmethod
    def cat(polymasks_list: list["PolygonMasks"]) -> "PolygonMasks":
        assert isinstance(polymasks_list, list | tuple) and len(polymasks_list) > 0
        assert all(isinstance(m, PolygonMasks) for m in polymasks_list)
        return PolygonMasks([polygons for m in polymasks_list for polygons in m.polygons])


def _checked_polygons(instance) -> list[np.ndarray]:
    if not isinstance(instance, list):
        raise ValueError(f"an instance must be a list of polygons, got {type(instance).__name__}")
    polygons = [p.cpu().numpy() if isinstance(p, Tensor) else p for p in instance]
    polygons = [np.asarray(p, dtype=np.float64) for p in polygons]
    for p in polygons:
        if len(p) % 2 or len(p) < 6:
            raise ValueError(f"a polygon needs an even number of at least 6 coordinates, got {len(p)}")
    return polygons


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return 0.5 * float(np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


class ROIMasks:
    """N soft masks, each within its box: ``.tensor`` is (N, S, S)."""

    def __init__(self, tensor: Tensor):
        assert tensor.dim() == 3, f"masks must be (N, S, S), got {tuple(tensor.shape)}"
        self.tensor = tensor

    def to(self, device) -> "ROIMasks":
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item) -> "ROIMasks":
        """Masks at a slice, or a bool or integer tensor."""
        selected = self.tensor[item]
        assert selected.dim() == 3, f"index {item} does not select masks"
        return ROIMasks(selected)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def to_bitmasks(self, boxes, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Paste each mask into its box (Boxes, or (N, 4)) of an image, and binarise at ``threshold``."""
        boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return BitMasks(paste_masks_in_image(self.tensor, boxes, (height, width), threshold=threshold))
