"""Multi-scale deformable attention: ours against the grid_sample way, at the shapes of a pixel decoder.

    python benchmarks/msda.py [--height 360 --width 640 --repeat 10]

CPU times are processor time of one thread, the least of several runs. On a GPU, if there is one, times are those of
CUDA events, and a limit is printed too: the time in which its memory could move every input and output once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from grid_sample_msda import grid_sample_msda

from vis_core.ops import ms_deform_attn

HEADS, CHANNELS, POINTS = 8, 32, 4
STRIDES = (32, 16, 8)


def inputs(height: int, width: int, num_images: int, dtype: torch.dtype, device: str):
    """What an encoder layer of the pixel decoder gives the op: offsets of a few pixels around every token."""
    height, width = -(-height // 32) * 32, -(-width // 32) * 32  # padded
    shapes = [(height // stride, width // stride) for stride in STRIDES]
    num_tokens, num_levels = sum(h * w for h, w in shapes), len(shapes)
    g = torch.Generator().manual_seed(0)
    value = torch.randn(num_images, num_tokens, HEADS, CHANNELS, generator=g)
    grids = [torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w) for h, w in shapes]
    points = torch.cat(grids).flip(1).view(1, num_tokens, 1, 1, 1, 2)
    offsets = 2 * torch.randn(num_images, num_tokens, HEADS, num_levels, POINTS, 2, generator=g)
    sizes = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float32).view(num_levels, 1, 2)
    weights = torch.randn(num_images, num_tokens, HEADS, num_levels * POINTS, generator=g).softmax(-1)
    weights = weights.view(num_images, num_tokens, HEADS, num_levels, POINTS)
    # Under autocast locations and weights stay in float32.
    tensors = (value.to(dtype), points + offsets / sizes, weights)
    return shapes, [x.to(device).requires_grad_() for x in tensors]


def passes(op: Callable, shapes, tensors) -> dict[str, Callable[[], object]]:
    """The two things that are timed."""
    value, locations, weights = tensors
    pull = torch.ones(value.shape[0], locations.shape[1], HEADS * CHANNELS).to(value)

    def forward():
        with torch.no_grad():
            return op(value, shapes, locations, weights)

    def both():
        return torch.autograd.grad(op(value, shapes, locations, weights), tensors, pull)

    return {"forward": forward, "forward + backward": both}


def cpu_ms(function: Callable[[], object], repeat: int) -> float:
    function()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def cuda_ms(function: Callable[[], object], repeat: int) -> float:
    for _ in range(3):
        function()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeat):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repeat


def copy_bandwidth() -> float:
    """Bytes a millisecond that the GPU's memory reads and writes in a plain copy."""
    source = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / cuda_ms(lambda: target.copy_(source), 20)


def moved_bytes(tensors, backward: bool) -> int:
    """Every input and output once: with backward, inputs are read twice, the result's gradient once, and written."""
    value = tensors[0]
    inputs_size = sum(x.numel() * x.element_size() for x in tensors)
    output_size = value.numel() * value.element_size()  # as many queries as tokens
    return 3 * inputs_size + 2 * output_size if backward else inputs_size + output_size


def report(device: str, name: str, num_images: int, dtype: torch.dtype, height: int, width: int, repeat: int) -> None:
    """Print a line for each pass: times, ratio, and what the limit is of ours."""
    shapes, tensors = inputs(height, width, num_images, dtype, device)
    reference, ours = passes(grid_sample_msda, shapes, tensors), passes(ms_deform_attn, shapes, tensors)
    difference = (reference["forward"]() - ours["forward"]()).abs().max().item()
    print(f"{name}, {num_images} x {height}x{width}, {dtype}: largest difference {difference:.1e}")
    bandwidth = copy_bandwidth() if device == "cuda" else None
    clock = cuda_ms if device == "cuda" else cpu_ms
    for what in ours:
        slow, fast = clock(reference[what], max(repeat // 3, 1)), clock(ours[what], repeat)
        line = f"  {what:20s} grid_sample {slow:8.2f} ms   ours {fast:8.2f} ms   ratio {slow / fast:5.1f}"
        if bandwidth:
            limit = moved_bytes(tensors, backward="backward" in what) / bandwidth
            line += f"   memory limit {limit:6.3f} ms = {100 * limit / fast:.0f} % of ours"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeat", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report("cpu", "CPU, 1 thread", 1, torch.float32, args.height, args.width, args.repeat)
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        for dtype in (torch.float32, torch.bfloat16):
            report("cuda", name, 5, dtype, args.height, args.width, 10 * args.repeat)
    else:
        print("no GPU: the CUDA kernels were not measured")


if __name__ == "__main__":
    main()
