"""CTVIS R-50 on a CPU: time a frame against the same network written the plain way, and memory by length of the video.

    python benchmarks/ctvis_inference.py [--height 360 --width 640 --frames 4] [--memory 20 60 300]

Weights are random. Times are processor time of one thread, the least of several runs, ours and the plain network's in
turns. Memory is the peak of a process of its own for each length, of a network small enough to be done soon: what could
grow with the video is the same, the transient part is not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import torch
from plain_segmenter import plain_segmenter
from torch.nn import functional as F

import projects
from vis_core.config import merge_config
from vis_core.modeling import for_inference
from vis_core.modeling.mask2former import query_decoder
from vis_core.modeling.mask2former.query_decoder import allowed_tokens

from detectron2.modeling import build_model  # isort: skip  (projects makes it importable)

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-3
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


def model(opts: dict[str, str], height: int, width: int):
    torch.manual_seed(0)
    options = [item for pair in {"MODEL.DEVICE": "cpu", **opts}.items() for item in pair]
    cfg = merge_config(projects.default_config(), ROOT / "configs/ctvis/ytvis19_r50.yaml", options)
    built = build_model(cfg).eval()
    frame = next(iter(Frames(1, height, width)))
    with torch.no_grad():  # queries and masks that differ, so that there are some dozens to track
        head = built.sem_seg_head
        head.predictor.class_embed.weight *= 8
        head.predictor.query_feat.weight *= 16
        head.predictor.query_embed.weight *= 16
        for layer in head.predictor.mask_embed.layers:
            layer.bias.zero_()
        features, _ = head.pixel_decoder(built.backbone(built.preprocess_images([frame]).tensor))
        head.pixel_decoder.mask_features.bias -= features.mean(dim=(0, 2, 3))
    return built


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
    net = model({"MODEL.CTVIS.TEST.WINDOW": "1"}, height, width)
    inputs = video(num_frames, height, width)
    frame = next(iter(inputs[0]["image"]))
    as_run = for_inference(net.backbone), for_inference(net.sem_seg_head)  # once for each video
    as_built = net.backbone, net.sem_seg_head
    compare_outputs(net, as_run, as_built, frame)
    for name, run, run_plain, frames in (
        ("network", lambda: network(net, *as_run, frame), lambda: network(net, *as_built, frame), 1),
        ("network, tracker, masks, run lengths", lambda: net(inputs), lambda: net(inputs), num_frames),
    ):
        least = {"ours": float("inf"), "plain": float("inf")}
        for _ in range(repeat):
            least["ours"] = min(least["ours"], cpu_seconds(run))
            with plain_segmenter():
                least["plain"] = min(least["plain"], cpu_seconds(run_plain))
        ours, plain = (1e3 * least[key] / frames for key in ("ours", "plain"))
        print(f"{name}: {ours:.0f} ms a frame, plain {plain:.0f} ms, ratio {ours / plain:.2f}")


def compare_outputs(net, as_run, as_built, frame: torch.Tensor) -> None:
    """Print how far outputs differ. Where a mask decides what a query attends to, a logit close to 0 falls on either
    side of it by its rounding, so that a pixel more or less is attended to: once left as it is, once ruled out."""
    masks = []
    with plain_segmenter(), mock.patch.object(query_decoder, "allowed_tokens", lambda x: kept(masks, x)):
        plain = network(net, *as_built, frame)
    num_tipped, queue = 0, iter(masks)

    def replayed(logits: torch.Tensor) -> torch.Tensor:
        nonlocal num_tipped
        mask = next(queue)
        num_tipped += (allowed_tokens(logits) != mask).sum().item()
        return mask

    with mock.patch.object(query_decoder, "allowed_tokens", replayed):
        same = difference(network(net, *as_run, frame), plain)
    print(f"greatest difference of logits, masks and embeddings: {same:.1e} (limit {TOLERANCE:.0e}) if both attend to")
    own = difference(network(net, *as_run, frame), plain)
    print(f"the same pixels, of which {num_tipped} in {sum(x.numel() for x in masks)} tip otherwise: then {own:.1e}")


def kept(masks: list[torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    masks.append(allowed_tokens(logits))
    return masks[-1]


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[key] - b[key]).abs().max().item() for key in ("pred_logits", "pred_masks", "pred_embeds"))


def cpu_seconds(run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def compare_memory(lengths: list[int], height: int, width: int) -> None:
    peaks = []
    for length in lengths:
        command = [sys.executable, __file__, "--peak", str(length), "--height", str(height), "--width", str(width)]
        peak, masks, size = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks.append(float(peak))
        held = f"{masks} masks put out, {float(size):.1f} MiB of run lengths"
        print(f"{length} frames: peak {peaks[-1]:.0f} MiB ({held}), {peaks[-1] / peaks[0]:.3f} of the first")


def print_peak(num_frames: int, height: int, width: int) -> None:
    torch.set_num_threads(1)
    tubes = model(SMALL, height, width)(video(num_frames, height, width))[0]["tubes"]
    by_track = {tube.track_id: tube.segmentations for tube in tubes}.values()
    masks = [rle for segmentations in by_track for rle in segmentations if rle is not None]
    size = sum(len(rle["counts"]) for rle in masks) / 2**20
    # Not resource.getrusage: its peak begins with that of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024, len(masks), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--frames", type=int, default=4, help="of the video that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[20, 60, 300], help="lengths of videos, in frames")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one length, in a process of its own
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.height, args.width)
        return
    compare_times(args.frames, args.height, args.width, args.repeat)
    compare_memory(args.memory, args.height, args.width)


if __name__ == "__main__":
    main()
