"""``vis demo``: the whole way from generated data to a report, in minutes, on a CPU."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated

import typer
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger

from vis_core.atomic import make_folder
from vis_core.checkpoint import VideoCheckpointer
from vis_core.cli.evaluate import evaluate
from vis_core.cli.predict import segment
from vis_core.data import dataset_metadata, register_shapes
from vis_core.data.shapes import SPLITS
from vis_core.engine import VideoTrainer
from vis_core.errors import ConfigError

MODEL = "masktrack-tiny-shapesvis"
SPLIT = "shapesvis_val"
# The first of shapesvis_train's videos: enough for a short run, and drawn in seconds.
TRAIN_SPLIT, TRAIN_VIDEOS = "shapesvis_demo", 100


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("output/demo"),
    iterations: Annotated[int, typer.Option(min=0, help="Training iterations; 0 evaluates our small weights.")] = 100,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Do not start from our small weights.")] = False,
) -> None:
    """Train, evaluate and predict on generated videos; leaves weights, a results file, a report and an overlay video.

    Example: vis demo --out output/demo --iterations 500
    """
    import projects

    if from_scratch and not iterations:
        raise ConfigError("--from-scratch leaves no weights that --iterations 0 could evaluate")
    model = projects.find_model(MODEL)
    start = "" if from_scratch else str(model.weights_file())
    # A short run: less than the config's learning rate if it goes on from trained weights, and no long warm-up.
    rate = [] if from_scratch else ["SOLVER.BASE_LR", "0.00003"]
    cfg = model.config(["OUTPUT_DIR", str(out), "MODEL.WEIGHTS", start, *rate])
    cfg.defrost()
    make_folder(out)
    setup_logger(str(out), name="vis_core")
    setup_logger(str(out), name="fvcore")
    setup_logger(str(out))
    for module in ("defaults", "default_trainer"):  # would print the network, 200 lines
        logging.getLogger(f"detectron2.engine.{module}").setLevel(logging.WARNING)

    print(f"1/4 Data: generated videos, {len(DatasetCatalog.get(SPLIT))} of them for evaluation")
    metadata = dataset_metadata(SPLIT)
    if iterations:
        print(f"2/4 Training MaskTrack R-CNN for {iterations} iterations and evaluating it")
        _train(cfg, iterations)
    else:
        print("2/4 Evaluating MaskTrack R-CNN")
        network = VideoTrainer.build_model(cfg)
        VideoCheckpointer(network, require_all=True).load(start)
        VideoTrainer.test(cfg, network)
    print("3/4 Report")
    evaluate(
        out / "inference" / "results.json",
        gt=Path(metadata.json_file),
        report=out / "report.html",
        frames=Path(metadata.image_root),
    )
    print("4/4 Prediction of one video")
    video = DatasetCatalog.get(SPLIT)[0]
    segment(cfg, Path(video["file_names"][0]).parent, out / "prediction", score=0.5)
    print(f"Look at {out / 'report.html'} and {out / 'prediction' / 'overlay.mp4'}")


def _train(cfg: CfgNode, iterations: int) -> None:
    """Train, evaluate, and make the new weights those of ``cfg``."""
    if TRAIN_SPLIT not in DatasetCatalog.list():
        config = dataclasses.replace(SPLITS["shapesvis_train"], num_videos=TRAIN_VIDEOS)
        root = Path(dataset_metadata("shapesvis_train").image_root).parents[1]
        register_shapes(TRAIN_SPLIT, config, root)
    cfg.DATASETS.TRAIN = (TRAIN_SPLIT,)
    cfg.SOLVER.MAX_ITER = iterations
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
