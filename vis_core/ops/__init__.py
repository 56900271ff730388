"""Operators that PyTorch lacks, each behind one function that works on every device."""

from vis_core.ops.deform_attn import ms_deform_attn

__all__ = ["ms_deform_attn"]
