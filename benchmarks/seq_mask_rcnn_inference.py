"""Seq Mask R-CNN R-50 on a CPU: time and memory per frame against the released code's way, and by length of the video.

    python benchmarks/seq_mask_rcnn_inference.py [--height 360 --width 640 --frames 10 40 --objects 3]

Weights are random, and every key frame has ``--objects`` discs for objects, whatever the detector (which runs) finds.
Times are processor time of one thread. Each run is a process of its own, ours and the plain one after each other; its
peak memory is the process's, less what it had with the model loaded (by length: all of the process's).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from memory import memory
from plain_seq_mask_rcnn import plain_category_aware, plain_proposals

import projects
from projects.seq_mask_rcnn import inference
from projects.seq_mask_rcnn import propose as proposing
from projects.seq_mask_rcnn.inference import Proposer
from projects.seq_mask_rcnn.reduce import category_aware, sequence_iou
from vis_core.config import merge_config
from vis_core.tube import decode_mask, encode_masks

from detectron2.modeling import build_model  # isort: skip  (projects makes it importable)

ROOT = Path(__file__).resolve().parents[1]
NODE = "MODEL.SEQ_MASK_RCNN"
# For the memory test: few channels, but masks and memory grid of the full size.
SMALL = {
    "MODEL.BACKBONE.NAME": "build_small_resnet_fpn_backbone",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.PROP_HEAD.KEY_DIM": "16",
    "MODEL.PROP_HEAD.VALUE_DIM": "32",
}


def model(opts: dict[str, str], dtype: torch.dtype):
    torch.manual_seed(0)
    options = [item for pair in {"MODEL.DEVICE": "cpu", **opts}.items() for item in pair]
    net = build_model(merge_config(projects.default_config(), ROOT / "configs/seq_mask_rcnn/ytvis19_r50.yaml", options))
    head = net.prop_head
    # So that masks are not all or nothing, and a read is a mean of many places in the memory: if it is the best fitting
    # one's only, the difference of a rounding grows from frame to frame.
    with torch.no_grad():
        for conv in (module for module in head.modules() if isinstance(module, torch.nn.Conv2d)):
            conv.weight.normal_(std=conv.weight[0].numel() ** -0.5)
        for conv, factor in (
            (head.enc_pos, 20),
            (head.atn_key, 0.1),
            (head.qry_atn_key, 0.1),
            (head.RF2.convFS, 0.2),
            (head.RF3.convFS, 0.2),
        ):
            conv.weight *= factor
    return net.eval().to(dtype)


class Frames:
    """T frames of noise with brighter discs that move, made when they are asked for."""

    def __init__(self, num_frames: int, height: int, width: int, num_objects: int):
        self.num_frames, self.height, self.width, self.num_objects = num_frames, height, width, num_objects
        self.noise = torch.randint(0, 120, (3, height, width), dtype=torch.uint8)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, t: int) -> torch.Tensor:
        if not 0 <= t < self.num_frames:
            raise IndexError(t)
        return self.noise + 100 * self.discs(t).any(dim=0).to(torch.uint8)

    def discs(self, t: int) -> torch.Tensor:
        """(N, h, w) bool: beside each other, going up and down."""
        y, x = torch.arange(self.height)[:, None], torch.arange(self.width)[None]
        radius = min(self.height, self.width / self.num_objects) / 4
        centres = [
            (self.height * (0.5 + 0.2 * np.sin(0.2 * t + n)), self.width * (n + 0.5) / self.num_objects)
            for n in range(self.num_objects)
        ]
        return torch.stack([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres])


def forced(frames: Frames):
    """A stand-in for ``propose``: the detector runs, and is not listened to."""
    keys = iter(sorted(set(proposing.key_frames(len(frames), 5))))

    def propose(net, maps, images):
        proposing.propose(net, maps, images)
        return frames.discs(next(keys))

    return propose


def run(name: str, frames: Frames, opts: dict[str, str], dtype: torch.dtype = torch.float32):
    """Proposals of one video by ``name``, "ours" or "plain"."""
    net = model(opts, dtype)
    before = memory("VmRSS")
    start = time.process_time()
    if name == "plain":
        proposals = plain_proposals(net, list(frames), forced(frames))
    else:
        inference.propose = forced(frames)
        with torch.no_grad():
            proposals = Proposer(net, frames).run()
    seconds = time.process_time() - start
    held = sum(len(rle["counts"]) for tube in proposals.masks for rle in tube if rle) / 2**20
    peak = memory("VmHWM")
    return proposals, {"seconds": seconds, "peak": peak - before, "process": peak, "held": held}


def child(args, name: str, num_frames: int, opts: dict[str, str] | None = None) -> dict:
    """What a run in a process of its own found."""
    command = [sys.executable, __file__, "--child", json.dumps([name, num_frames, opts or {}])]
    for key in ("height", "width", "objects"):
        command += [f"--{key}", str(getattr(args, key))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def print_child(args) -> None:
    torch.set_num_threads(1)
    name, num_frames, opts = json.loads(args.child)
    torch.manual_seed(1)
    frames = Frames(num_frames, args.height, args.width, args.objects)
    if name in ("discs", "long"):  # the network runs, but every mask is a disc: what depends on objects' size shows
        hold_masks(frames)
    proposals, found = run("plain" if name == "plain" else "ours", frames, opts)
    if name != "long":
        found["masks"], found["scores"] = proposals.masks, proposals.scores.tolist()
    print(json.dumps(found))


def hold_masks(frames: Frames) -> None:
    """Replace what the propagation head finds by discs, which move little."""
    discs = frames.discs(0).float()
    height, width = (-(-side // 32) * 32 for side in discs.shape[1:])
    padded = torch.zeros(len(discs), height, width)
    padded[:, : discs.shape[1], : discs.shape[2]] = discs
    aggregate = inference.soft_aggregate

    def held(probabilities):
        aggregate(probabilities)
        return None, torch.cat([1 - padded.sum(dim=0, keepdim=True), padded])

    inference.soft_aggregate = held


def compare_exactly(num_frames: int = 6, height: int = 180, width: int = 320, num_objects: int = 3) -> None:
    """In float64, where next to no rounding can hide or make a difference."""
    torch.manual_seed(1)
    frames = Frames(num_frames, height, width, num_objects)
    ours, plain = (run(name, frames, {}, torch.float64)[0] for name in ("ours", "plain"))
    difference = differing(ours.masks, plain.masks, ours.scores, plain.scores, height, width)
    print(f"float64, {num_frames} frames of {height} x {width}: {difference}")


def compare(args) -> None:
    for num_frames in args.frames:
        ours, plain = (child(args, name, num_frames) for name in ("ours", "plain"))
        difference = differing(ours["masks"], plain["masks"], ours["scores"], plain["scores"], args.height, args.width)
        print(f"{num_frames} frames: {difference}")
        for key, unit in (("seconds", "s"), ("peak", "MiB")):
            mine, theirs = ours[key] / num_frames, plain[key] / num_frames
            print(f"  {mine:.2f} {unit} a frame, plain {theirs:.2f}, ratio {mine / theirs:.2f}")


def differing(ours: list, plain: list, our_scores, plain_scores, height: int, width: int) -> str:
    """How far two runs' sequences (lists of RLEs) and scores are from each other, in words."""
    size = [-(-side // 32) * 32 for side in (height, width)]

    def masks(sequences: list) -> np.ndarray:
        nothing = np.zeros(size, bool)
        return np.stack([nothing if rle is None else decode_mask(rle) for tube in sequences for rle in tube])

    mine, theirs = masks(ours), masks(plain)
    scores = np.abs(np.array(our_scores) - np.array(plain_scores)).max()
    return (
        f"{np.count_nonzero(mine != theirs)} of {mine.size} mask pixels ({np.count_nonzero(mine)} inside) and scores "
        f"by {scores:.1e} other"
    )


def compare_modes(args) -> None:
    num_frames = args.frames[0]
    modes = {
        "as released": {},
        "SEARCH_MARGIN 64": {f"{NODE}.SEARCH_MARGIN": "64"},
        "PRECISION bfloat16": {f"{NODE}.PRECISION": "bfloat16"},
        "both": {f"{NODE}.SEARCH_MARGIN": "64", f"{NODE}.PRECISION": "bfloat16"},
    }
    first = None
    for name, opts in modes.items():
        seconds = child(args, "discs", num_frames, opts)["seconds"] / num_frames
        first = first or seconds
        print(f"{num_frames} frames, {name}: {seconds:.2f} s per frame, {seconds / first:.2f} of the first")


def compare_reduction(num_sequences: int = 30, num_frames: int = 36, num_classes: int = 40, repeat: int = 3) -> None:
    """Category-aware reduction of moving ellipses on 384 x 640."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:384, :640]
    sequences = []
    for n in range(num_sequences):
        cx, cy = 80 + 60 * (n % 8) + rng.normal(0, 8), 100 + 60 * (n // 8)
        rx, ry = rng.uniform(20, 60, 2)
        masks = [
            ((x - cx - 3 * t) / rx) ** 2 + ((y - cy) / ry) ** 2 + 0.1 * np.sin(x / 5) <= 1 for t in range(num_frames)
        ]
        sequences.append(encode_masks(np.stack(masks)))
    scores = rng.random((num_sequences, num_classes)) ** 4
    cfg = merge_config(projects.default_config(), ROOT / "configs/seq_mask_rcnn/ytvis19_r50_cate.yaml")
    rule = cfg.MODEL.SEQ_MASK_RCNN.CATE_REDUCE
    settings = (rule.SIGMA, rule.SCORE_THRESH, rule.MAX_SEQ)
    runs = {
        "ours": lambda: category_aware(scores, sequence_iou(sequences), *settings),
        "plain": lambda: plain_category_aware(scores, lambda: sequence_iou(sequences), rule),
        "coco": lambda: plain_category_aware(scores, lambda: coco_iou(sequences), rule),
    }
    least, results = {}, {}
    for name, run_once in runs.items():
        times = []
        for _ in range(1 if name == "coco" else repeat):
            start = time.process_time()
            results[name] = run_once()
            times.append(time.process_time() - start)
        least[name] = min(times)
    assert all((np.abs(result - results["ours"]) < 1e-12).all() for result in results.values())
    print(
        f"category-aware reduction of {num_sequences} sequences of {num_frames} frames: {1e3 * least['ours']:.1f} ms; "
        f"overlaps anew for each class {least['plain'] / least['ours']:.0f} times as long, "
        f"and by merging run lengths, as released, {least['coco'] / least['ours']:.0f} times"
    )


def coco_iou(sequences) -> np.ndarray:
    """IoU of all pairs by merging every pair of masks."""
    from pycocotools import mask as coco

    out = np.zeros((len(sequences), len(sequences)))
    for i, a in enumerate(sequences):
        for j, b in enumerate(sequences[: i + 1]):
            common = sum(coco.area(coco.merge(list(pair), intersect=True)) for pair in zip(a, b))
            union = sum(coco.area(coco.merge(list(pair))) for pair in zip(a, b))
            out[i, j] = out[j, i] = common / union if union else 0.0
    return out


def compare_lengths(args, budget: int = 16, cap: int = 10) -> None:
    opts = {**SMALL, f"{NODE}.FEATURE_BUDGET": str(budget), f"{NODE}.MEM_CAP": str(cap)}
    print(f"a small network, features kept within {budget} MiB, {cap} memory entries, {args.height} x {args.width}:")
    first = None
    for num_frames in args.lengths:
        found = child(args, "long", num_frames, opts)
        first = first or found["process"]
        sizes = f"{found['process']:.0f} MiB, of these {found['held']:.1f} run lengths"
        print(f"  {num_frames} frames: peak {sizes}; {found['process'] / first:.3f} of the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--frames", type=int, nargs="*", default=[10, 40], help="of the videos that are timed")
    parser.add_argument("--objects", type=int, default=3, help="a key frame")
    parser.add_argument("--lengths", type=int, nargs="*", default=[60, 600], help="of the videos for the memory test")
    parser.add_argument("--parts", nargs="*", default=["exact", "plain", "modes", "reduction", "lengths"])
    parser.add_argument("--child", help=argparse.SUPPRESS)  # one run, in a process of its own
    args = parser.parse_args()
    if args.child:
        print_child(args)
        return
    if "exact" in args.parts:
        compare_exactly()
    if "plain" in args.parts:
        compare(args)
    if "modes" in args.parts:
        compare_modes(args)
    if "reduction" in args.parts:
        compare_reduction()
    if "lengths" in args.parts:
        compare_lengths(args)


if __name__ == "__main__":
    main()
