"""RoIAlign's gradient on a CPU: torchvision's against ours.

    python benchmarks/roi_align.py [--boxes 64 --channels 64 --size 14 --repeat 20]

Processor time of one thread, the least of ``--repeat`` runs of each in turn, on a map of 32 x 48.
"""

from __future__ import annotations

import argparse
import time

import torch
import torchvision

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.ops.roi_align import roi_align

HEIGHT, WIDTH = 32, 48


def backward_seconds(pool, features: torch.Tensor, boxes: torch.Tensor, size: int) -> tuple[float, torch.Tensor]:
    """Processor time of the backward pass, and the gradient."""
    features = features.clone().requires_grad_()
    out = pool(features, boxes, (size, size), 1.0, 0, True)
    start = time.process_time()
    out.backward(torch.ones_like(out))
    return time.process_time() - start, features.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=14, help="bins a side")
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = torch.randn(1, args.channels, HEIGHT, WIDTH)
    corners = torch.rand(args.boxes, 2, 2).sort(dim=1).values * torch.tensor([WIDTH, HEIGHT])
    boxes = torch.cat([torch.zeros(args.boxes, 1), corners.flatten(1)], dim=1)
    pools = {"plain": torchvision.ops.roi_align, "ours": roi_align}
    least = dict.fromkeys(pools, float("inf"))
    for _ in range(args.repeat):
        gradients = {}
        for name, pool in pools.items():
            seconds, gradients[name] = backward_seconds(pool, features, boxes, args.size)
            least[name] = min(least[name], seconds)
    torch.testing.assert_close(gradients["ours"], gradients["plain"], rtol=1e-4, atol=1e-4)
    ours, plain = 1e3 * least["ours"], 1e3 * least["plain"]
    print(f"gradient: {ours:.1f} ms, torchvision {plain:.1f} ms, ratio {plain / ours:.1f}")


if __name__ == "__main__":
    main()
