"""A labelled data set to look at: one HTML page, every video with its tubes drawn, a slider through its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from vis_core.data.formats.labels import Labels, Video
from vis_core.data.frame_source import ImageSource
from vis_core.data.paths import inside
from vis_core.tube import Tube
from vis_core.visualization.data_uri import jpeg_uri
from vis_core.visualization.overlay import OverlayDrawer

_QUALITY = 80


def gallery_page(
    labels: Labels,
    frames: Path,
    title: str,
    videos: Sequence[Video],
    *,
    num_frames: int = 8,
    width: int = 360,
    track: Callable[[Sequence, str], Iterable] = lambda items, what: items,
) -> str:
    """The page's text, pictures included.

    Args:
        frames: folder that the file names are relative to.
        videos: those of ``labels`` to show.
        num_frames: pictures per video, evenly spread over it.
        width: of a picture in pixels.

    Raises DataError for frames that cannot be read or are not of the video's size.
    """
    template = Template((Path(__file__).parent / "gallery.html").read_text(encoding="utf-8"))
    class_names = sorted(labels.categories, key=lambda name: labels.categories[name])
    place = {name: k for k, name in enumerate(class_names)}
    blocks = [_block(video, frames, class_names, place, num_frames, width) for video in track(videos, "videos")]
    used = Counter(name for video in videos for name in {tube.category for tube in video.tracks})
    buttons = [
        f'<button data-class="{place[name]}" aria-pressed="false">{escape(name)} {used[name]}</button>'
        for name in class_names
        if used[name]
    ]
    total = len(labels.videos)
    shown = f"{total} videos" if len(videos) == total else f"{len(videos)} of {total} videos"
    return template.substitute(
        title=escape(title),
        subtitle=escape(f"{shown}; {num_frames} frames of each at most. A class shows the videos that have it."),
        classes="".join(buttons),
        videos="".join(blocks),
    )


def _block(
    video: Video, frames: Path, class_names: list[str], place: dict[str, int], num_frames: int, width: int
) -> str:
    length = len(video.file_names)
    chosen = np.unique(np.linspace(0, length - 1, min(num_frames, length)).round().astype(int)).tolist()
    source = ImageSource([inside(frames, name, str(frames)) for name in video.file_names], name=video.name)
    tubes = [
        Tube(place[track.category], 1.0, [track.masks.get(t) for t in range(length)], track.id)
        for track in video.tracks
    ]
    scale = max(1, round(width / video.width))  # labels of small videos need room
    drawer = OverlayDrawer(tubes, class_names, video.height, video.width, scale, scores=False)
    pictures = ((t, jpeg_uri(drawer.draw(source[t], t), _QUALITY, width)) for t in chosen)
    images = "".join(f'<img src="{uri}" alt="frame {t}" loading="lazy">' for t, uri in pictures)
    counts = Counter(track.category for track in video.tracks)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no objects"
    start = int(np.argmax([sum(t in track.masks for track in video.tracks) for t in chosen]))
    return (
        f'<figure class="video" data-classes="{" ".join(str(place[name]) for name in counts)}">{images}'
        f'<input type="range" min="0" max="{len(chosen) - 1}" value="{start}" aria-label="frame">'
        f"<figcaption><b>{escape(video.name)}</b>video {video.id}: {length} frames, "
        f"{video.height} x {video.width}; {escape(told)}</figcaption></figure>"
    )
