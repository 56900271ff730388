"""Tube AP: ours against a textbook evaluator, and mask encoding ours against the plain way.

    python benchmarks/evaluator.py [--scale 1] [--rounds 3] [--write docs/benchmarks.md]

Two sets are generated: one like YouTube-VIS (300 videos, about 170,000 masks at 720p, 20 tracks per video) and one like
OVIS (long crowded videos); ``--scale`` shrinks their number of videos. Each evaluator runs in a process of its own,
one thread, in turns, and all must give the same arrays. Times are processor time; ratios are those of neighbouring
runs, the median over the rounds. Evaluation is timed from the parsed lists, and once more from the files, for which
the peak memory is shown too. Our loops are compiled at first use and kept on disk; a run before the first round sees
to that, and one video is evaluated before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from memory import memory

HERE = Path(__file__).resolve().parent
MODES = ("plain", "ours", "ours-files")
ARRAYS = ("precision", "recall", "scores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the videos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose evaluator section gets the tables")
    parser.add_argument("--worker", nargs=3, metavar=("MODE", "FOLDER", "ARRAYS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(*args.worker)))
        return
    lines = [*evaluation_lines(args.scale, args.rounds), "", *encoding_lines(args.rounds)]
    print("\n".join(lines))
    if args.write:
        write_section(args.write, "evaluator", lines)


def work(mode: str, folder: str, arrays: str) -> dict[str, float]:
    """One evaluation in this process: seconds and peak memory in MB."""
    gt_file, results_file = Path(folder) / "gt.json", Path(folder) / "results.json"
    if mode == "plain":
        from plain_evaluator import evaluate
    else:
        from vis_core.evaluation import evaluate_tracks

        def evaluate(gt, results):
            metrics = evaluate_tracks(gt, results)
            return {name: getattr(metrics, name) for name in ARRAYS}

        evaluate(*first_video(gt_file, results_file))  # loads the compiled loops
    start = time.process_time()
    if mode == "ours-files":
        computed, evaluation = evaluate(gt_file, results_file), 0.0
    else:
        gt, results = json.loads(gt_file.read_text()), json.loads(results_file.read_text())
        parsed = time.process_time()
        computed = evaluate(gt, results)
        evaluation = time.process_time() - parsed
    total = time.process_time() - start
    np.savez(arrays, **computed)
    return {"evaluation": evaluation, "total": total, "memory": memory("VmHWM")}


def first_video(gt_file: Path, results_file: Path) -> tuple[dict, list[dict]]:
    """Ground truth and results cut to one video, read without leaving a trace in peak memory."""
    from vis_core.evaluation.entries import FileEntries, read_without

    gt, annotations = read_without(gt_file, "annotations")
    video = gt["videos"][0]
    objects = [entry for _, entry in FileEntries(str(gt_file), "annotation", *annotations).of(video["id"])]
    tracks = [entry for _, entry in FileEntries(str(results_file), "entry").of(video["id"])]
    return {**gt, "videos": [video], "annotations": objects}, tracks


def evaluation_lines(scale: float, rounds: int) -> list[str]:
    from evaluator_sets import OVIS_LIKE, YTVIS_LIKE, write_set

    head = ("set", "masks", "plain, s", "ours, s", "ratio", "from files: plain, s", "ours, s", "ratio")
    lines = ["| " + " | ".join([*head, "memory: plain, MB", "ours, MB"]) + " |", "|---" * 10 + "|"]
    for name, size in (("YouTube-VIS-like", YTVIS_LIKE), ("OVIS-like", OVIS_LIKE)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _, results_file = write_set(replace(size, videos=max(1, round(scale * size.videos))), folder)
            masks = results_file.read_text().count('"counts"')
            run("ours", folder)
            runs = [{mode: run(mode, folder) for mode in MODES} for _ in range(rounds)]
            same = all(
                np.array_equal(np.load(folder / f"{mode}.npz")[array], np.load(folder / "plain.npz")[array])
                for mode in MODES
                for array in ARRAYS
            )
        if not same:
            raise SystemExit(f"{name}: the two evaluators disagree")

        def median(mode: str, field: str) -> float:
            return statistics.median(one[mode][field] for one in runs)  # noqa: B023

        in_memory = statistics.median(one["plain"]["evaluation"] / one["ours"]["evaluation"] for one in runs)
        from_files = statistics.median(one["plain"]["total"] / one["ours-files"]["total"] for one in runs)
        lines.append(
            f"| {name} | {masks:,} | {median('plain', 'evaluation'):.2f} | {median('ours', 'evaluation'):.2f} "
            f"| {in_memory:.1f} | {median('plain', 'total'):.2f} | {median('ours-files', 'total'):.2f} "
            f"| {from_files:.1f} | {median('plain', 'memory'):.0f} | {median('ours-files', 'memory'):.0f} |"
        )
    return lines


def run(mode: str, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    command = [sys.executable, __file__, "--worker", mode, str(folder), str(folder / f"{mode}.npz")]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        raise SystemExit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def encoding_lines(rounds: int) -> list[str]:
    """Milliseconds a 720p mask, from a boolean tensor to an RLE with ``str`` counts."""
    import pycocotools.mask as coco_mask
    import torch
    from evaluator_sets import blob, draw

    from vis_core.tube import decode_mask, encode_masks

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rles = [rle for _ in range(30) for rle in draw(blob(rng, 1))[0] if rle is not None]
    masks = torch.from_numpy(np.ascontiguousarray([decode_mask(rle) for rle in rles]))

    def plain(masks: torch.Tensor) -> list[dict]:
        encoded = [coco_mask.encode(np.array(mask[:, :, None].numpy(), order="F", dtype="uint8"))[0] for mask in masks]
        return [{"size": list(rle["size"]), "counts": rle["counts"].decode("utf-8")} for rle in encoded]

    if not plain(masks) == encode_masks(masks) == rles:
        raise SystemExit("the two encoders disagree")
    times = {plain: [], encode_masks: []}
    for _ in range(max(3, rounds)):
        for function, taken in times.items():
            start = time.process_time()
            function(masks)
            taken.append((time.process_time() - start) / len(masks) * 1e3)
    slow, fast = (statistics.median(taken) for taken in times.values())
    ratio = statistics.median(a / b for a, b in zip(*times.values()))
    return [
        "| encoding on the CPU | plain, ms per mask | ours, ms per mask | ratio |",
        "|---|---|---|---|",
        f"| {len(masks)} masks of 720 x 1280 | {slow:.3f} | {fast:.3f} | {ratio:.1f} |",
    ]


def write_section(page: Path, name: str, lines: list[str]) -> None:
    """Replace what stands between the page's marks of this section; append the section if there are none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = "\n".join([begin, *lines, end])
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    if begin in text and end in text:
        text = text[: text.index(begin)] + section + text[text.index(end) + len(end) :]
    else:
        text = f"{text.rstrip()}\n\n## Evaluator\n\n{section}\n"
    page.write_text(text)


if __name__ == "__main__":
    main()
