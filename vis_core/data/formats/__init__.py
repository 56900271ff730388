"""Label formats of other tools: read to, and written from, what YouTube-VIS jsons hold."""

from .convert import read_labels, write_labels
from .labels import Labels, ReadOptions, Track, Video, WriteOptions
from .registry import FORMATS, detect_format, format_named

__all__ = [
    "FORMATS",
    "Labels",
    "ReadOptions",
    "Track",
    "Video",
    "WriteOptions",
    "detect_format",
    "format_named",
    "read_labels",
    "write_labels",
]
