"""Operators that PyTorch lacks or is slow at, each behind one function that works on every device."""

from vis_core.ops.deform_attn import ms_deform_attn
from vis_core.ops.roi_align import ROIAlign, roi_align

__all__ = ["ROIAlign", "ms_deform_attn", "roi_align"]
