"""RoIAlign (He et al., Mask R-CNN, arXiv:1703.06870)."""

from torch import Tensor, nn
from torchvision.ops import roi_align

__all__ = ["ROIAlign", "roi_align"]


class ROIAlign(nn.Module):
    """Average of bilinear samples in each bin of each box.

    Args:
        output_size: int or (height, width), in bins.
        spatial_scale: feature map pixels per image pixel.
        sampling_ratio: samples per bin and axis; 0 takes about one sample per feature map pixel.
        aligned: put pixel centres at half-integer coordinates, which is right; False is the shift of the first
            implementations, kept for weights that were trained with it.
    """

    def __init__(self, output_size, spatial_scale: float, sampling_ratio: int, aligned: bool = True):
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(R, C, h, w) from a map (N, C, H, W) and boxes (R, 5): index into the batch, x0, y0, x1, y1."""
        assert rois.dim() == 2 and rois.shape[1] == 5, f"rois must be (R, 5), got {tuple(rois.shape)}"
        return roi_align(
            input, rois.to(input.dtype), self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
