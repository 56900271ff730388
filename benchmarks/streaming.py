"""A generator of frames through VideoPredictor.stream: latency of each frame, and memory as the stream goes on.

    python benchmarks/streaming.py [--model NAME] [--weights FILE] [--frames 500] [--height 360 --width 480]

Without weights the network's are random (of a model for ShapesVIS). Frames are moving noise, made one by one. Latency
is from a frame's arrival to its result, and is printed for every frame; resident memory is printed at a tenth and at
the end of the stream, and their ratio is what should stay near 1.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import torch
from memory import memory

import projects
from vis_core.engine import VideoPredictor, VideoTrainer

FRAMES_A_LINE = 10


def noise(num_frames: int, height: int, width: int):
    """Moving noise, (H, W, 3) uint8, one frame at a time."""
    still = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    still = np.ascontiguousarray(still.repeat(8, axis=0).repeat(8, axis=1))
    for t in range(num_frames):
        yield np.roll(still, 2 * t, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="masktrack-tiny-shapesvis")
    parser.add_argument("--weights", default="")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=480)
    args = parser.parse_args()

    cfg = projects.find_model(args.model).config()
    with tempfile.TemporaryDirectory() as folder:
        cfg.MODEL.WEIGHTS = args.weights or f"{folder}/random.pth"
        if not args.weights:
            torch.manual_seed(0)
            torch.save({"model": VideoTrainer.build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
        predictor = VideoPredictor(cfg)

    stream = predictor.stream(noise(args.frames, args.height, args.width))
    early, num_objects = 0, 0
    print("latency of each frame in ms:")
    for t, found in enumerate(stream):
        num_objects += len(found)
        start = f"{t:5}:" if t % FRAMES_A_LINE == 0 else ""
        is_last_of_line = (t + 1) % FRAMES_A_LINE == 0 or t + 1 == args.frames
        print(f"{start}{1000 * stream.latency.last:7.1f}", end="\n" if is_last_of_line else "", flush=True)
        if t == args.frames // 10:
            early = memory("VmRSS")
    late = memory("VmRSS")
    summary = stream.latency.summary()
    print(f"{args.model}, {args.width}x{args.height} frames, {num_objects / args.frames:.1f} objects per frame")
    print("of these: " + ", ".join(f"{name} {value:g}" for name, value in summary.items() if name != "frames"))
    print(f"memory: {early:.0f} MiB after {args.frames // 10} frames, {late:.0f} MiB after {args.frames}")
    print(f"ratio {late / early:.3f}")


if __name__ == "__main__":
    main()
