"""DefaultTrainer, DefaultPredictor and what a training script starts with, around a tiny model."""

import argparse
import itertools
import json
import logging
import os
import random

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import (
    DefaultPredictor,
    DefaultTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
)
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn


class TinyForEngineTests(nn.Module):
    """Loss (w·x + b)²; in evaluation mode gives back its input and w."""

    def __init__(self, cfg):
        super().__init__()
        self.lin = nn.Linear(1, 1)
        nn.init.constant_(self.lin.weight, 0.5)
        nn.init.constant_(self.lin.bias, 0.1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, batch):
        if not self.training:
            return [{"input": item, "w": self.lin.weight} for item in batch]
        return {"loss": (self.lin(torch.tensor([[item["x"]] for item in batch])) ** 2).mean()}


if "TinyForEngineTests" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(TinyForEngineTests)


class Mean(DatasetEvaluator):
    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += [output["input"]["x"] for output in outputs]

    def evaluate(self):
        return {"toy": {"mean": sum(self.seen) / len(self.seen)}}


class Trainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat([{"x": 1.0}, {"x": 2.0}])

    @classmethod
    def build_test_loader(cls, cfg, name):
        return [[{"x": float(x)}] for x in name.split("_")[1:]]

    @classmethod
    def build_evaluator(cls, cfg, name):
        return Mean()


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "TinyForEngineTests"
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.TEST = ("toy_1_2_6",)
    cfg.SOLVER.MAX_ITER = 8
    cfg.SOLVER.STEPS = (6,)
    cfg.SOLVER.WARMUP_ITERS = 3
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SOLVER.CHECKPOINT_PERIOD = 4
    cfg.TEST.EVAL_PERIOD = 4
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    return cfg


def changed(cfg, **keys):
    cfg = cfg.clone()
    cfg.merge_from_list(list(itertools.chain(*((key.replace("__", "."), value) for key, value in keys.items()))))
    return cfg


def hook_names(trainer):
    return [type(hook).__name__ for hook in trainer._hooks]


def test_order_of_hooks(cfg):
    expected = ["IterationTimer", "LRScheduler", "PeriodicCheckpointer", "EvalHook", "PeriodicWriter"]
    assert hook_names(Trainer(cfg)) == expected
    precise = changed(cfg, TEST__PRECISE_BN__ENABLED=True)
    assert hook_names(Trainer(precise)) == expected[:2] + ["PreciseBN"] + expected[2:]


def test_a_training_leaves_its_files(cfg):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.max_iter, type(trainer._trainer).__name__) == (0, 8, "SimpleTrainer")
    assert trainer.train() is None
    files = {name for name in os.listdir(cfg.OUTPUT_DIR) if not name.startswith("events.out")}
    assert files == {"last_checkpoint", "metrics.json", "model_0000003.pth", "model_0000007.pth", "model_final.pth"}
    with open(os.path.join(cfg.OUTPUT_DIR, "metrics.json")) as file:
        lines = [json.loads(line) for line in file]
    assert [line["iteration"] for line in lines] == [3, 7, 8]
    assert lines[0] == {"iteration": 3, "toy/mean": 3.0} and lines[2] == {"iteration": 8, "toy/mean": 3.0}
    assert {"loss", "total_loss", "lr", "time", "data_time", "rank_data_time", "eta_seconds"} < set(lines[1])
    contents = torch.load(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    assert sorted(contents) == ["iteration", "model", "trainer"] and contents["iteration"] == 7
    state = contents["trainer"]
    assert state["hooks"] == {"LRScheduler": {"base_lrs": [0.01, 0.01], "last_epoch": 8}}
    assert sorted(state["_trainer"]) == ["iteration", "optimizer"] and state["iteration"] == 7


@pytest.mark.parametrize("amp", [False, pytest.param(True, marks=pytest.mark.bundled_only)])
def test_a_resumed_training_computes_the_same(cfg, tmp_path, amp):
    cfg = changed(cfg, SOLVER__AMP__ENABLED=amp)
    whole = Trainer(changed(cfg, OUTPUT_DIR=str(tmp_path / "whole")))
    whole.resume_or_load(resume=False)
    whole.train()

    interrupted = Trainer(cfg)
    interrupted.resume_or_load(resume=False)
    super(DefaultTrainer, interrupted).train(0, 4)
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 4
    resumed.train()
    assert torch.equal(resumed.model.lin.weight, whole.model.lin.weight)
    assert torch.equal(resumed.model.lin.bias, whole.model.lin.bias)
    assert resumed.optimizer.state_dict()["param_groups"] == whole.optimizer.state_dict()["param_groups"]


def test_without_resume_a_checkpoint_gives_its_weights_only(cfg):
    first = Trainer(cfg)
    first.train()
    weights = os.path.join(cfg.OUTPUT_DIR, "model_0000003.pth")
    second = Trainer(changed(cfg, MODEL__WEIGHTS=weights))
    second.resume_or_load(resume=False)
    assert second.start_iter == 0 and second.scheduler.last_epoch == 0
    saved = torch.load(weights, weights_only=True)["model"]
    assert torch.equal(second.model.lin.weight, saved["lin.weight"])


def test_mixed_precision_is_chosen_by_the_config(cfg):
    assert type(Trainer(changed(cfg, SOLVER__AMP__ENABLED=True))._trainer).__name__ == "AMPTrainer"


def test_properties_reach_the_inner_trainer(cfg):
    trainer = Trainer(cfg)
    inner = trainer._trainer
    assert (trainer.model, trainer.optimizer, trainer.data_loader) == (inner.model, inner.optimizer, inner.data_loader)
    trainer.model, trainer.optimizer, trainer.data_loader = "m", "o", "d"
    assert (inner.model, inner.optimizer, inner.data_loader) == ("m", "o", "d")


def test_expected_results(cfg):
    right = changed(cfg, TEST__EXPECTED_RESULTS=[["toy", "mean", 3.0, 0.1]])
    assert Trainer(right).train() == {"toy": {"mean": 3.0}}
    with pytest.raises(SystemExit):
        Trainer(changed(cfg, TEST__EXPECTED_RESULTS=[["toy", "mean", 4.0, 0.1]])).train()


def test_test_over_data_sets(cfg, caplog):
    model = Trainer.build_model(cfg)
    two = changed(cfg, DATASETS__TEST=("toy_1_2_6", "toy_4"))
    assert Trainer.test(cfg, model) == {"toy": {"mean": 3.0}}
    assert Trainer.test(two, model) == {"toy_1_2_6": {"toy": {"mean": 3.0}}, "toy_4": {"toy": {"mean": 4.0}}}
    assert Trainer.test(cfg, model, Mean()) == {"toy": {"mean": 3.0}}
    with pytest.raises(AssertionError):
        Trainer.test(two, model, [Mean()])

    class NoEvaluator(Trainer):
        build_evaluator = DefaultTrainer.build_evaluator

    assert NoEvaluator.test(cfg, model) == {}
    assert "No evaluator" in caplog.text


def test_scaling_to_other_numbers_of_workers(cfg):
    assert DefaultTrainer.auto_scale_workers(cfg, 4) is cfg
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 2
    assert DefaultTrainer.auto_scale_workers(cfg, 2) is cfg
    cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(cfg, 4)
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (32, 0.02, 4, (3,))
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (2, 2, 2)
    assert solver.REFERENCE_WORLD_SIZE == 4 and scaled.is_frozen() and cfg.SOLVER.MAX_ITER == 8
    down = DefaultTrainer.auto_scale_workers(cfg, 1).SOLVER
    assert (down.IMS_PER_BATCH, down.BASE_LR, down.MAX_ITER, down.STEPS) == (8, 0.005, 16, (12,))
    with pytest.raises(AssertionError):
        DefaultTrainer.auto_scale_workers(changed(cfg, SOLVER__IMS_PER_BATCH=3), 4)


def test_arguments():
    args = default_argument_parser().parse_args([])
    assert (args.config_file, args.resume, args.eval_only, args.opts) == ("", False, False, [])
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (1, 1, 0)
    host, port = args.dist_url.rsplit(":", 1)
    assert host == "tcp://127.0.0.1" and 2**15 + 2**14 <= int(port) < 2**16
    args = default_argument_parser("words").parse_args(["--resume", "A.B", "1", "--eval-only"])
    assert args.resume and not args.eval_only and args.opts == ["A.B", "1", "--eval-only"]
    assert default_argument_parser("words").epilog == "words"


def test_setup(cfg, tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 5  # hello\n")
    cfg.SEED = 5
    args = argparse.Namespace(config_file=str(tmp_path / "a.yaml"), eval_only=False)
    draws = []
    for _ in range(2):
        default_setup(cfg, args)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    with open(os.path.join(cfg.OUTPUT_DIR, "config.yaml")) as file:
        assert get_cfg().load_cfg(file.read()).SOLVER.MAX_ITER == 8
    logging.getLogger("detectron2.engine").info("a line")
    with open(os.path.join(cfg.OUTPUT_DIR, "log.txt")) as file:
        log = file.read()
    assert "hello" in log and "a.yaml" in log and "a line" in log and "META_ARCHITECTURE: TinyForEngineTests" in log


def test_setup_of_numeric_options(cfg):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        cfg.FLOAT32_PRECISION, cfg.CUDNN_BENCHMARK = "medium", True
        torch.backends.cudnn.benchmark = False
        default_setup(cfg, argparse.Namespace(eval_only=True))
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("medium", False)
        default_setup(cfg, argparse.Namespace())
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]


def test_writers(tmp_path):
    writers = default_writers(str(tmp_path / "new"), 10)
    assert [type(writer).__name__ for writer in writers] == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]
    for writer in writers:
        writer.close()


def test_one_process_needs_no_wrapper():
    model = nn.Linear(1, 1)
    assert create_ddp_model(model, broadcast_buffers=False) is model


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_predictor(cfg, tmp_path, channels):
    if "toy_predictor" not in DatasetCatalog.list():
        DatasetCatalog.register("toy_predictor", list)
    state = Trainer.build_model(cfg).state_dict()
    state["lin.weight"] = torch.tensor([[9.0]])
    torch.save({"model": state}, tmp_path / "w.pth")
    cfg = changed(
        cfg,
        MODEL__WEIGHTS=str(tmp_path / "w.pth"),
        INPUT__FORMAT=channels,
        INPUT__MIN_SIZE_TEST=10,
        INPUT__MAX_SIZE_TEST=15,
        DATASETS__TEST=("toy_predictor",),
    )
    predictor = DefaultPredictor(cfg)
    assert not predictor.model.training and predictor.metadata is MetadataCatalog.get("toy_predictor")
    image = np.zeros((20, 60, 3), np.uint8)
    image[..., 0] = 200  # blue
    output = predictor(image)
    assert output["w"].item() == 9.0
    given = output["input"]
    assert (given["height"], given["width"]) == (20, 60)
    assert given["image"].shape == (3, 5, 15) and given["image"].dtype == torch.float32
    assert given["image"].amax((1, 2)).tolist() == ([200, 0, 0] if channels == "BGR" else [0, 0, 200])
    with pytest.raises(AssertionError):
        DefaultPredictor(changed(cfg, INPUT__FORMAT="L"))


def test_predictor_keeps_no_graph(cfg):
    class Grad(nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, batch):
            return [{"y": self.w * item["image"].sum()} for item in batch]

    name = "GradForEngineTests"
    if name not in META_ARCH_REGISTRY:
        Grad.__name__ = name
        META_ARCH_REGISTRY.register(Grad)
    predictor = DefaultPredictor(changed(cfg, MODEL__META_ARCHITECTURE=name, DATASETS__TEST=()))
    assert not predictor(np.ones((8, 8, 3), np.uint8))["y"].requires_grad
    assert not hasattr(predictor, "metadata")
