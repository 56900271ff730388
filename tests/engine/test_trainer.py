import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vis_core.checkpoint import read_checkpoint
from vis_core.data import register_shapes, register_ytvis
from vis_core.data.shapes import ShapesConfig
from vis_core.engine import VideoTrainer
from vis_core.engine.hooks import IterationSeed
from vis_core.engine.schedule import warn_of_long_warmup
from vis_core.errors import CheckpointError, ConfigError, DataError

from detectron2.data import DatasetCatalog, MetadataCatalog  # isort: skip  (importable once vis_core is)


def train(cfg, resume: bool = False) -> VideoTrainer:
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)  # default_setup's part: it decides the first weights
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def start(out: Path, iterations: int, *flags: str) -> subprocess.Popen:
    """Train in a process of its own; see run_small.py."""
    script = Path(__file__).resolve().parent / "run_small.py"
    return subprocess.Popen([sys.executable, str(script), *flags, str(out), str(iterations)])


def model_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["model"]


def test_resumed_run_equals_the_uninterrupted_one(tmp_path, small_run):
    options = ("SOLVER.MAX_ITER", "6", "DATASETS.TEST", "()")
    train(small_run(tmp_path / "whole", *options))

    part = tmp_path / "part"
    train(small_run(part, *options))
    # As if it had been killed after the checkpoint of iteration 2.
    (part / "model_final.pth").unlink()
    (part / "model_0000005.pth").unlink()
    (part / "last_checkpoint").write_text("model_0000002.pth")
    before = model_of(part / "model_0000002.pth")
    resumed = train(small_run(part, *options), resume=True)

    assert resumed.start_iter == 3
    whole, after = model_of(tmp_path / "whole" / "model_final.pth"), model_of(part / "model_final.pth")
    assert all(torch.equal(whole[key], after[key]) for key in whole)
    assert any(not torch.equal(whole[key], before[key]) for key in whole)


@pytest.mark.slow
def test_killed_process_leaves_a_state_to_resume_from(tmp_path):
    """SIGKILL in the middle; the resumed run ends with the weights of an uninterrupted one."""
    assert start(tmp_path / "whole", 40).wait(timeout=600) == 0
    killed = start(tmp_path / "killed", 40)
    deadline = time.monotonic() + 600
    while not (tmp_path / "killed" / "model_0000020.pth").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model_final.pth").exists()
    assert start(tmp_path / "killed", 40, "--resume").wait(timeout=600) == 0
    whole, resumed = (model_of(tmp_path / name / "model_final.pth") for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_evaluation_of_a_checkpoint_repeats_that_of_training(tmp_path, small_run):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", "2")
    trainer = train(cfg)
    again = VideoTrainer.test(cfg, trainer.model)
    assert again["segm"].keys() >= {"AP", "AP50", "AR10"}
    for key, value in trainer._last_eval_results["segm"].items():
        assert again["segm"][key] == pytest.approx(value, abs=0, nan_ok=True)


@pytest.mark.bundled_only
def test_two_processes_step_like_one(tmp_path):
    """The same global batch in one process and over two gives the same weights but for rounding."""
    assert start(tmp_path / "one", 3).wait(timeout=300) == 0
    assert start(tmp_path / "two", 3, "--num-gpus", "2", "--dist-url", "auto").wait(timeout=300) == 0
    one, two = (model_of(tmp_path / name / "model_final.pth") for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


def test_no_evaluator_for_an_unknown_type(small_run, tmp_path):
    from detectron2.data import MetadataCatalog

    MetadataCatalog.get("some_depth_set").set(evaluator_type="depth")
    with pytest.raises(ConfigError, match="no evaluator for 'some_depth_set'"):
        VideoTrainer.build_evaluator(small_run(tmp_path), "some_depth_set")


def test_submission_archive_follows_the_config(small_run, tmp_path):
    for wanted in (True, False):
        cfg = small_run(tmp_path / str(wanted), "SOLVER.MAX_ITER", "1", "TEST.WRITE_SUBMISSION", str(wanted))
        train(cfg)
        written = {path.name for path in (tmp_path / str(wanted) / "inference").iterdir()}
        assert written == ({"results.json", "submission.zip"} if wanted else {"results.json"})


def test_faulty_test_sets_end_a_run_before_it_begins(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(VideoTrainer, "run_step", lambda self: pytest.fail("it has begun"))
    if "engine_test_gone" not in DatasetCatalog.list():
        register_ytvis("engine_test_gone", tmp_path / "gone.json", tmp_path)
    for names, error, message in (
        ("('engine_test_shape',)", ConfigError, "DATASETS.TEST: no data set 'engine_test_shape' is registered"),
        ("('engine_test_shapes', 'engine_test_gone')", DataError, "gone.json"),
    ):
        with pytest.raises(error, match=message):
            train(small_run(tmp_path, "DATASETS.TEST", names))


def test_generated_test_sets_are_made_before_a_run_begins(small_run, tmp_path):
    if "engine_test_later" not in DatasetCatalog.list():
        register_shapes("engine_test_later", ShapesConfig(num_videos=1, length=2, height=32, width=32), tmp_path)
    train(small_run(tmp_path, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "('engine_test_later',)"))


def test_iteration_seed_depends_on_seed_iteration_and_rank_only():
    def draw(seed, iteration, rank):
        hook = IterationSeed(lambda: seed, rank)
        hook.trainer = type("Trainer", (), {"iter": iteration})()
        hook.before_step()
        return torch.rand(1).item()

    assert draw(1, 5, 0) == draw(1, 5, 0)
    assert len({draw(1, 5, 0), draw(2, 5, 0), draw(1, 6, 0), draw(1, 5, 1)}) == 4


@pytest.mark.parametrize(("iterations", "said"), [(99, True), (100, False)])
def test_a_run_that_mostly_warms_up_is_warned_of(iterations, said, small_run, tmp_path, caplog):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", str(iterations), "SOLVER.WARMUP_ITERS", "50")
    warn_of_long_warmup(cfg)
    assert (f"SOLVER.WARMUP_ITERS: 50 of {iterations} iterations (SOLVER.MAX_ITER)" in caplog.text) == said


def test_training_warns_of_a_warm_up_without_end(small_run, tmp_path, caplog):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "50", "DATASETS.TEST", "()")
    with caplog.at_level("WARNING", "vis_core.engine.schedule"):
        train(cfg)
    assert "SOLVER.WARMUP_ITERS: 1 of 1 iterations" in caplog.text


def test_a_run_does_not_go_on_with_another_number_of_classes(small_run, tmp_path):
    options = ("SOLVER.MAX_ITER", "1", "SOLVER.OPTIMIZER", "ADAMW", "DATASETS.TEST", "()")
    train(small_run(tmp_path, *options))
    with pytest.raises(CheckpointError, match=r"model_final\.pth: was trained with another model .*: start without"):
        train(small_run(tmp_path, *options, "MODEL.ROI_HEADS.NUM_CLASSES", "8"), resume=True)


def test_a_diverged_training_says_so_in_one_line_and_keeps_its_checkpoints(tmp_path, small_run, monkeypatch, caplog):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "()")

    class Diverging(IterationSeed):
        def before_step(self):
            super().before_step()
            if self.trainer.iter == 3:
                next(self.trainer.model.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr("vis_core.engine.trainer.IterationSeed", Diverging)
    with pytest.raises(
        ConfigError, match=r"SOLVER\.BASE_LR: the training diverged at iteration 3 .* try less than 0\.01"
    ):
        train(cfg)
    assert (tmp_path / "model_0000001.pth").is_file()
    assert "Traceback" not in caplog.text


def test_a_defect_keeps_its_traceback_in_the_log(tmp_path, small_run, monkeypatch, caplog):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", "6", "DATASETS.TEST", "()")
    monkeypatch.setattr(IterationSeed, "before_step", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(cfg)
    assert "Traceback" in caplog.text


def test_missing_frames_are_one_line(tmp_path, small_run, caplog):
    cfg = small_run(tmp_path, "SOLVER.MAX_ITER", "6", "DATASETS.TEST", "()")
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    register_ytvis("frames_elsewhere", metadata.json_file, tmp_path / "nowhere")
    cfg.DATASETS.TRAIN = ("frames_elsewhere",)
    with pytest.raises(DataError, match="nowhere"):
        train(cfg)
    assert "Traceback" not in caplog.text
