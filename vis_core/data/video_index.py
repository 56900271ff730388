"""Which frames a video file holds, found out by reading its packets (without decoding, where that is exact)."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av

from vis_core.errors import DataError

logger = logging.getLogger(__name__)

# Codecs of which every packet shows one frame. Others may hold packets that show nothing (VP8's hidden reference
# frames): their frames are counted by decoding.
_ONE_FRAME_A_PACKET = {
    "h264",
    "hevc",
    "vp9",
    "av1",
    "mpeg4",
    "mpeg2video",
    "mjpeg",
    "prores",
    "ffv1",
    "png",
    "rawvideo",
}


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a file.

    Attributes:
        length: number of frames.
        fps: mean frame rate, None if the file does not say.
        pts: time stamps of the frames in order of display, ascending; None where the file has no usable ones (raw
            streams), frames are then known by their order only.
        keyframes: (frame number, time stamp to seek to) of every keyframe, ascending.
        truncated: None, or what is missing at the end.
    """

    length: int
    fps: float | None
    pts: list[int] | None
    keyframes: list[tuple[int, int]]
    truncated: str | None
    _number: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_number", {pts: i for i, pts in enumerate(self.pts or [])})

    def keyframe_before(self, number: int) -> tuple[int, int | None]:
        """Number and time stamp to seek to of the last keyframe at or before a frame; (0, None) is the file's start."""
        at = bisect_right(self.keyframes, number, key=lambda k: k[0]) - 1
        return self.keyframes[at] if at >= 0 else (0, None)

    def decode(self, container, stream, on_error: Callable[[Exception], None]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode from where the container stands: (number, frame) in order of display.

        Undecodable packets are reported to ``on_error`` and leave gaps. Without time stamps numbers count from 0.
        """
        for count, frame in enumerate(_decode(container, stream, self.truncated is not None, on_error)):
            number = count if self.pts is None else self._number.get(frame.pts)
            if number is not None and number < self.length:
                yield number, frame


def open_stream(path: str, threads: bool = True):
    """Open a file: (container, its first video stream), to decode with several threads or one. Raises DataError."""
    try:
        container = av.open(path)
    except (av.error.FFmpegError, OSError) as e:
        raise DataError(f"{path}: cannot be opened as a video: {reason(e)} (damaged, cut off, or no video)") from e
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        container.close()
        raise DataError(f"{path}: no decoder for this video's codec")
    stream.thread_type = "AUTO" if threads else "NONE"
    return container, stream


def reason(error: Exception) -> str:
    """FFmpeg's own words, without the number and the function that PyAV wraps around them."""
    return getattr(error, "strerror", None) or str(error)


def index_video(path: str) -> VideoIndex:
    """Read through a file and list its frames. Raises DataError if it is no video or holds no frame."""
    container, stream = open_stream(path)
    with container:
        packets, error = _packets(container, stream)
        truncated = _truncation(path, stream, packets, error)
        if not truncated:
            _warn_of_early_end(path, container, stream, packets)
        fps = stream.average_rate or stream.guessed_rate
        codec = stream.codec_context.name
    shown = _shown(packets, cut=truncated is not None)
    pts = sorted(p.pts for p in shown if p.pts is not None)
    exact = codec in _ONE_FRAME_A_PACKET and len(pts) == len(shown) == len(set(pts))
    if not exact:
        pts = _decoded_pts(path, truncated is not None)
    if not pts:
        raise DataError(f"{path}: holds no frame that can be decoded (damaged or cut off)")
    length = len(pts)
    if None in pts or len(set(pts)) < length:
        return VideoIndex(length, float(fps) if fps else None, None, [], truncated)
    number = {p: i for i, p in enumerate(pts)}
    keyframes = sorted((number[p.pts], p.seek) for p in shown if p.key and p.pts in number)
    return VideoIndex(length, float(fps) if fps else None, pts, keyframes, truncated)


@dataclass(frozen=True)
class _Packet:
    pts: int | None
    dts: int | None
    key: bool
    corrupt: bool
    discard: bool  # decoded for the sake of others, not shown (edit lists)

    @property
    def seek(self) -> int | None:
        # Containers look up entry points by decoding time.
        return self.pts if self.dts is None else self.dts


def _packets(container, stream) -> tuple[list[_Packet], Exception | None]:
    packets = []
    try:
        for p in container.demux(stream):
            if p.size:  # the last one is empty and only ends the decoding
                packets.append(_Packet(p.pts, p.dts, p.is_keyframe, p.is_corrupt, p.is_discard))
    except (av.error.FFmpegError, OSError) as e:
        return packets, e
    return packets, None


def _truncation(path: str, stream, packets: list[_Packet], error: Exception | None) -> str | None:
    """What says that the file's end is missing; None if nothing does.

    The container's own frame count is not asked: it may be wrong in files that play well.
    """
    if error is not None:
        return f"the file breaks off or is damaged here ({reason(error)})"
    size = os.path.getsize(path)
    beyond = [entry for entry in getattr(stream, "index_entries", ()) if entry.pos + entry.size > size]
    if beyond:
        return f"the file is truncated here, at least {len(beyond)} more frames are missing"
    if packets and packets[-1].corrupt:
        return "the file is truncated here"
    return None


def _warn_of_early_end(path: str, container, stream, packets: list[_Packet]) -> None:
    """Some containers (Matroska, WebM) do not show that their end is missing, except by the duration they promised."""
    stamps = [p.pts for p in packets if p.pts is not None]
    if not stamps or container.duration is None or len(container.streams) > 1:
        return
    promised = container.duration / av.time_base
    held = float((max(stamps) - min(stamps)) * stream.time_base)
    if held < 0.95 * promised - 1:
        logger.warning("%s: holds %.1f s of %.1f s; the file may be truncated", path, held, promised)


def _shown(packets: list[_Packet], cut: bool) -> list[_Packet]:
    """The packets whose frames a decoder will show."""
    first_key = next((i for i, p in enumerate(packets) if p.key), None)
    if first_key is None:
        return []
    shown = [p for p in packets[first_key:] if not p.discard]
    start = packets[first_key].pts
    if start is not None:  # frames shown before the first keyframe need one that came still earlier
        shown = [p for p in shown if p.pts is None or p.pts >= start]
    if cut:
        # A lost packet is decoded later than all we have, so what it shows comes after the last decoding time. Frames
        # beyond that may have gaps between them.
        whole = packets[:-1] if packets[-1].corrupt else packets
        last = next((p.dts for p in reversed(whole) if p.dts is not None), None)
        shown = [p for p in shown if p is not packets[-1] or not p.corrupt]
        shown = [p for p in shown if last is None or p.pts is None or p.pts <= last]
    return shown


def _decoded_pts(path: str, cut: bool) -> list[int | None]:
    container, stream = open_stream(path, threads=False)
    with container:
        return [frame.pts for frame in _decode(container, stream, cut, on_error=lambda e: None)]


def _decode(container, stream, cut: bool, on_error: Callable[[Exception], None]) -> Iterator[av.VideoFrame]:
    """Frames from where the container stands, in order of display; of a cut file without its half last packet."""
    try:
        for packet in container.demux(stream):
            if cut and packet.is_corrupt:
                break
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as e:
                on_error(e)
    except (av.error.FFmpegError, OSError) as e:
        on_error(e)
    if cut:
        try:
            yield from stream.decode(None)
        except av.error.FFmpegError as e:
            on_error(e)
