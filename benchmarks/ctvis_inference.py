"""CTVIS R-50 on a CPU: time per frame against the same network written the plain way, and memory by video length.

    python benchmarks/ctvis_inference.py [--height 360 --width 640 --frames 10] [--memory 20 60 300]

Times are processor time of one thread, the least of several runs, ours and the plain network's in turns. Weights are
random; outputs are also compared for the small network whose weights come with the project. Memory is the peak of a
process of its own for each length, the least of three, of a network small enough to be done soon: what could grow
with the video is the same, the transient part is not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from memory import memory
from plain_segmenter import plain_segmenter
from segmenter_outputs import TOLERANCE, compare_trained, compare_untrained
from torch import nn
from torch.nn import functional as F

import projects
from vis_core.config import merge_config
from vis_core.data.shapes.register import SPLITS
from vis_core.data.shapes.render import render_frame
from vis_core.data.shapes.scene import make_scene
from vis_core.engine import VideoPredictor
from vis_core.modeling import for_inference

from detectron2.modeling import build_model  # isort: skip  (projects makes it importable)

ROOT = Path(__file__).resolve().parents[1]
TRAINED = "ctvis-tiny-shapesvis"
# For the memory test: few channels and layers, but all queries, and masks of the full size.
SMALL = {
    "MODEL.BACKBONE.NAME": "build_small_resnet_backbone",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.MASK_FORMER.HIDDEN_DIM": "32",
    "MODEL.MASK_FORMER.NHEADS": "4",
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": "32",
    "MODEL.MASK_FORMER.DEC_LAYERS": "2",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": "1",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD": "32",
}


def model(opts: dict[str, str], seed: int = 0) -> nn.Module:
    """As it is initialised."""
    torch.manual_seed(seed)
    options = [item for pair in {"MODEL.DEVICE": "cpu", **opts}.items() for item in pair]
    cfg = merge_config(projects.default_config(), ROOT / "configs/ctvis/ytvis19_r50.yaml", options)
    return build_model(cfg).eval()


def with_objects(net: nn.Module, height: int, width: int) -> nn.Module:
    """Changed so that queries and masks differ, and there are some dozens to track."""
    frame = next(iter(Frames(1, height, width)))
    head = net.sem_seg_head
    with torch.no_grad():
        head.predictor.class_embed.weight *= 8
        head.predictor.query_feat.weight *= 16
        head.predictor.query_embed.weight *= 16
        for name, weight in head.predictor.named_parameters():
            if name.startswith("transformer_") and name.endswith("out_proj.weight"):
                weight *= 0.2
        for layer in head.predictor.mask_embed.layers:
            layer.bias.zero_()
        features, _ = head.pixel_decoder(net.backbone(net.preprocess_images([frame]).tensor))
        head.pixel_decoder.mask_features.bias -= features.mean(dim=(0, 2, 3))
    return net


class Frames:
    """T frames with a square that moves, made when they are asked for."""

    def __init__(self, num_frames: int, height: int, width: int):
        self.num_frames = num_frames
        colours = torch.randint(0, 255, (1, 3, 4, 6)).float()
        background = F.interpolate(colours, size=(height, width), mode="bicubic", align_corners=False)[0]
        self.background = background.clamp(0, 255).to(torch.uint8)

    def __iter__(self):
        for t in range(self.num_frames):
            frame = self.background.clone()
            frame[:, 40 : frame.shape[1] // 2, 5 * t % 300 : 5 * t % 300 + 100] = 200
            yield frame


def video(num_frames: int, height: int, width: int) -> list[dict]:
    return [{"image": Frames(num_frames, height, width), "height": height, "width": width}]


@torch.no_grad()
def network(net, backbone, head, frame: torch.Tensor) -> dict[str, torch.Tensor]:
    return head(backbone(net.preprocess_images([frame]).tensor), with_aux=False)


def compare_times(num_frames: int, height: int, width: int, repeat: int) -> None:
    torch.set_num_threads(1)
    one_by_one = {"MODEL.CTVIS.TEST.WINDOW": "1"}
    net, frame = model({}), next(iter(Frames(1, height, width)))
    as_run = for_inference(net.backbone), for_inference(net.sem_seg_head)  # once for each video
    as_built = net.backbone, net.sem_seg_head
    whole, inputs = with_objects(model(one_by_one), height, width), video(num_frames, height, width)
    for name, run, run_plain, frames in (
        ("network", lambda: network(net, *as_run, frame), lambda: network(net, *as_built, frame), 1),
        ("network, tracker, masks, run lengths", lambda: whole(inputs), lambda: whole(inputs), num_frames),
    ):
        least = {"ours": float("inf"), "plain": float("inf")}
        for _ in range(repeat):
            least["ours"] = min(least["ours"], cpu_seconds(run))
            with plain_segmenter():
                least["plain"] = min(least["plain"], cpu_seconds(run_plain))
        ours, plain = (1e3 * least[key] / frames for key in ("ours", "plain"))
        print(f"{name}: {ours:.0f} ms per frame, plain {plain:.0f} ms, ratio {ours / plain:.2f}", flush=True)


def compare_outputs(num_seeds: int, num_videos: int, every: int, height: int, width: int) -> None:
    torch.set_num_threads(1)
    frame = next(iter(Frames(1, height, width)))
    print(f"greatest differences of logits, masks and embeddings (limit {TOLERANCE:.0e}):")
    for seed in range(num_seeds):
        name = "R-50 as initialised" + (" (the network that is timed)" if seed == 0 else f", seed {seed}")
        compare_untrained(name, model({}, seed), frame)
    compare_untrained("R-50 with objects", with_objects(model({}), height, width), frame)
    compare_trained(TRAINED, VideoPredictor(TRAINED).model, shapes(num_videos, every))


def shapes(num_videos: int, every: int) -> Iterator[torch.Tensor]:
    """Every ``every``-th frame of videos of shapesvis_val, (3, H, W) uint8 RGB."""
    for index in range(num_videos):
        scene = make_scene(SPLITS["shapesvis_val"], index)
        for t in range(0, len(scene), every):
            yield torch.from_numpy(render_frame(scene, t)[0]).permute(2, 0, 1)


def cpu_seconds(run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def compare_memory(lengths: list[int], height: int, width: int) -> None:
    peaks = []
    for length in lengths:
        command = [sys.executable, __file__, "--peak", str(length), "--height", str(height), "--width", str(width)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
        peak, masks, size = min(runs, key=lambda run: float(run[0]))  # what PyTorch itself takes varies by 2 %
        peaks.append(float(peak))
        held = f"{masks} masks put out, {float(size):.1f} MiB of run lengths"
        print(f"{length} frames: peak {peaks[-1]:.0f} MiB ({held}), {peaks[-1] / peaks[0]:.3f} of the first")


def print_peak(num_frames: int, height: int, width: int) -> None:
    torch.set_num_threads(1)
    tubes = with_objects(model(SMALL), height, width)(video(num_frames, height, width))[0]["tubes"]
    by_track = {tube.track_id: tube.segmentations for tube in tubes}.values()
    masks = [rle for segmentations in by_track for rle in segmentations if rle is not None]
    size = sum(len(rle["counts"]) for rle in masks) / 2**20
    print(memory("VmHWM"), len(masks), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--frames", type=int, default=10, help="of the video that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=8, help="untrained networks whose outputs are compared")
    parser.add_argument("--videos", type=int, default=30, help="of ShapesVIS, for the outputs of a trained network")
    parser.add_argument("--every", type=int, default=5, help="so many frames of these one is taken")
    parser.add_argument("--memory", type=int, nargs="*", default=[20, 60, 300], help="lengths of videos, in frames")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one length, in a process of its own
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.height, args.width)
        return
    compare_times(args.frames, args.height, args.width, args.repeat)
    compare_outputs(args.seeds, args.videos, args.every, args.height, args.width)
    compare_memory(args.memory, args.height, args.width)


if __name__ == "__main__":
    main()
