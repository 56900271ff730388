"""VMT R-50 on a CPU: time and memory per frame against the same network run the released way, and memory by length.

    python benchmarks/vmt_inference.py [--height 360 --width 640 --frames 2 6] [--memory 60 600]

Weights are random, with biases that give about 8000 detail pixels per frame. Times are processor time of one thread,
from frames to run-length masks. Memory is the peak of a process of its own for each way and length; its growth per
frame is the difference between two lengths. The windowed run over long videos has a narrow network, small frames and
default windows: what could grow with the video is the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from memory import memory
from plain_vmt import greatest_difference, plain_clip, plain_predict
from torch.nn import functional as F

import projects
from projects.vmt.detail import near_contours
from projects.vmt.window import Window
from vis_core.config import merge_config

from detectron2.modeling import build_model  # isort: skip  (projects makes it importable)

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-4
WANTED_POINTS = 8000
SMALL = {
    "MODEL.BACKBONE.NAME": "build_small_resnet_backbone",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.VMT.HIDDEN_DIM": "32",
    "MODEL.VMT.NHEADS": "4",
    "MODEL.VMT.DIM_FEEDFORWARD": "32",
    "MODEL.VMT.ENC_LAYERS": "1",
    "MODEL.VMT.DEC_LAYERS": "2",
    "MODEL.VMT.NUM_QUERIES": "50",
    "MODEL.VMT.REFINE_DIM": "16",
    "MODEL.VMT.REFINE_LAYERS": "1",
    "MODEL.VMT.REFINE_DIM_FEEDFORWARD": "32",
    "MODEL.VMT.MAX_POINTS": "1000",
}


class Frames:
    """T frames with a square that moves over smooth colours, made when they are asked for."""

    def __init__(self, num_frames: int, height: int, width: int):
        self.num_frames = num_frames
        colours = torch.randint(0, 255, (1, 3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
        background = F.interpolate(colours, size=(height, width), mode="bicubic", align_corners=False)[0]
        self.background = background.clamp(0, 255).to(torch.uint8)

    def __iter__(self):
        for t in range(self.num_frames):
            frame = self.background.clone()
            frame[:, 20 : frame.shape[1] // 2, 5 * t % 300 : 5 * t % 300 + 60] = 200
            yield frame


def video(num_frames: int, height: int, width: int) -> dict:
    return {"image": Frames(num_frames, height, width), "height": height, "width": width}


@torch.no_grad()
def model(opts: dict[str, str], height: int, width: int, wanted_points: float):
    """A network with random weights; the second stage's last bias is set for ``wanted_points`` in a first frame."""
    torch.manual_seed(0)
    options = [item for pair in {"MODEL.DEVICE": "cpu", **opts}.items() for item in pair]
    cfg = merge_config(projects.default_config(), ROOT / "configs/vmt/hq_ytvis_r50.yaml", options)
    built = build_model(cfg).eval()
    frames = list(built.inference.encoded_frames(built, Frames(1, height, width)))
    bias, best = built.masks.controller_inc.layers[-1].bias, None
    for value in range(-120, 121, 5):
        bias[-1] = value
        clip = built.inference.clip_objects(built, frames)
        _, second = built.inference.stages(built, clip, slice(0, 1), frames[0].maps.maps)
        found = abs(num_points(second, height, width) - wanted_points)
        if best is None or found < best[0]:
            best = (found, value)
    bias[-1] = best[1]
    return built


def num_points(second: torch.Tensor, height: int, width: int) -> int:
    return int(near_contours(second, (-(-height // 2), -(-width // 2))).sum())


@torch.no_grad()
def compare_logits(net, height: int, width: int) -> None:
    """Mask logits of every stage, and class logits, of one frame."""
    frames = list(Frames(1, height, width))
    wanted, plain, points = plain_clip(net, net.preprocess_images(frames).tensor)
    encoded = list(net.inference.encoded_frames(net, frames))
    clip = net.inference.clip_objects(net, encoded)
    ours, theirs = [clip.logits], [wanted]
    for stage in ("coarse", "second", "refined"):
        net.inference.stage = stage
        ((_, masks),) = net.inference.frame_masks(net, clip, Window(0, encoded, 0, 1))
        ours.append(masks)
        theirs.append(plain[stage][:, 0])
    net.inference.stage = "refined"
    difference = greatest_difference(ours, theirs)
    print(f"{len(clip.logits)} instances, {points[0]} detail pixels of the frame")
    print(f"greatest difference of class and mask logits, of their scale: {difference:.1e} (limit {TOLERANCE:.0e})")


def measure(way: str, num_frames: int, height: int, width: int) -> None:
    """Prints processor time and peak memory (MiB) of one video, and what its result takes."""
    torch.set_num_threads(1)
    small = way == "windowed"
    net = model(SMALL if small else {}, height, width, WANTED_POINTS * height * width / (360 * 640))
    run = plain_predict if way == "plain" else lambda net, clip: net([clip])[0]["tubes"]
    run(net, video(1, 64, 96))  # what is compiled or loaded at first use
    start = time.process_time()
    tubes = run(net, video(num_frames, height, width))
    seconds = time.process_time() - start
    by_track = {tube.track_id: tube.segmentations for tube in tubes}.values()
    size = sum(len(rle["counts"]) for masks in by_track for rle in masks if rle is not None) / 2**20
    print(seconds, memory("VmHWM"), len(by_track), size)


def measured(way: str, num_frames: int, height: int, width: int) -> list[float]:
    """:func:`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, "--frames", str(num_frames)]
    command += ["--height", str(height), "--width", str(width)]
    return [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def compare_ways(lengths: list[int], height: int, width: int) -> None:
    growth, times = {}, {}
    for way in ("plain", "ours"):
        runs = [measured(way, length, height, width) for length in lengths]
        seconds, peaks = [run[0] for run in runs], [run[1] for run in runs]
        growth[way] = (peaks[-1] - peaks[0]) / (lengths[-1] - lengths[0])
        times[way] = seconds[-1] / lengths[-1]
        found = ", ".join(f"{n} frames {peak:.0f} MiB" for n, peak in zip(lengths, peaks))
        print(f"{way}: {times[way]:.2f} s per frame; peaks {found}: {growth[way]:.1f} MiB per frame")
    print(f"time, ours / plain: {times['ours'] / times['plain']:.2f} (limit 0.4)")
    print(f"growth of the peak per frame, ours / plain: {growth['ours'] / growth['plain']:.2f} (limit 0.4)")


def compare_lengths(lengths: list[int], height: int, width: int) -> None:
    peaks = []
    for length in lengths:
        _, peak, tracks, size = measured("windowed", length, height, width)
        peaks.append(peak)
        held = f"{tracks:.0f} tracks put out, {size:.1f} MiB of run lengths"
        print(f"windowed, {length} frames: peak {peak:.0f} MiB ({held}), {peak / peaks[0]:.3f} of the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--frames", type=int, nargs="*", default=[2, 6], help="lengths of the videos of both ways")
    parser.add_argument("--memory", type=int, nargs="*", default=[60, 600], help="lengths of the windowed videos")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one way and length, in a process of its own
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.frames[0], args.height, args.width)
        return
    torch.set_num_threads(1)
    if args.frames:
        points = WANTED_POINTS * args.height * args.width / (360 * 640)
        compare_logits(model({}, args.height, args.width, points), args.height, args.width)
        compare_ways(args.frames, args.height, args.width)
    compare_lengths(args.memory, 90, 160)


if __name__ == "__main__":
    main()
