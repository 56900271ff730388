"""The commands as a user calls them: right results, and one line with status 2 for what is the input's fault."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image
from small_config import CONFIG, OPTIONS, small_config
from typer.testing import CliRunner

from vis_core.cli import predict
from vis_core.cli.main import app
from vis_core.data import open_video
from vis_core.engine import VideoTrainer
from vis_core.evaluation import GroundTruth, Results
from vis_core.tube import Tube, encode_masks
from vis_core.visualization.video_writer import VideoWriter

SMALL = [arg for key, value in OPTIONS.items() for arg in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    out = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = VideoTrainer.build_model(small_config(out / "data", out))
    torch.save({"model": model.state_dict()}, out / "model.pth")
    return out / "model.pth"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    with VideoWriter(path, fps=10) as writer:
        for t in range(7):
            frame = np.full((64, 96, 3), 90, np.uint8)
            frame[20:40, 10 + 5 * t : 35 + 5 * t] = (220, 60, 40)
            writer.write(frame)
    return path


def vis(*args):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "vis_core.cli.main", *map(str, args)], capture_output=True, text=True
    )


def predict_args(video, weights, out):
    # All detections of the untrained model, so that there is something to draw and to write.
    score = ["--set", "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0.0"]
    files = ["--config-file", CONFIG, "--weights", weights, "--out", out]
    return ["predict", video, *files, "--score", "0", *SMALL, *score]


def test_predict_writes_video_and_results(video, weights, tmp_path):
    result = CliRunner().invoke(app, list(map(str, predict_args(video, weights, tmp_path))))
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results and all(len(entry["segmentations"]) == 7 for entry in results)
    # What we write, we can read: as results for the video that video.json describes.
    ground_truth = GroundTruth.load(str(tmp_path / "video.json"))
    loaded = Results.load(str(tmp_path / "results.json"))
    assert len(loaded) == len(results) and set(loaded.video_ids) == set(ground_truth.videos)
    overlay = open_video(tmp_path / "overlay.mp4")
    assert len(overlay) == 7
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_predict_counts_what_is_drawn(video, tmp_path, monkeypatch):
    """One object under two classes, drawn once; one below the score."""
    masks = [None] * 7

    class Predictor:
        class_names, cfg = ["cat", "dog"], None

        def __init__(self, cfg):
            pass

        def __call__(self, source, on_frame):
            return [Tube(0, 0.9, masks, 1), Tube(1, 0.8, masks, 1), Tube(0, 0.1, list(masks), 2)]

    monkeypatch.setattr(predict, "VideoPredictor", Predictor)
    summary = predict.segment(None, video, tmp_path, 0.5)
    assert (summary["tubes"], summary["shown"]) == (3, 1)


def test_results_of_an_annotated_video_are_that_videos(tmp_path, monkeypatch):
    """What predict writes is what evaluate needs: id and names of the ground truth, whatever number the video has."""
    for name in ("8.jpg", "9.jpg"):
        (tmp_path / "num").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "num" / name)
    masks = encode_masks(np.ones((2, 48, 64), bool))
    videos = [
        {"id": i, "height": 48, "width": 64, "length": 2, "file_names": [f"{name}/8.jpg", f"{name}/9.jpg"]}
        for i, name in ((1, "other"), (2, "sub/num"))
    ]
    tracks = [{"id": i, "video_id": i, "category_id": 1, "segmentations": masks} for i in (1, 2)]
    content = {"videos": videos, "categories": [{"id": 1, "name": "cat"}], "annotations": tracks}
    (tmp_path / "all.json").write_text(json.dumps(content))

    class Predictor:
        class_names, cfg = ["cat"], None

        def __init__(self, cfg):
            pass

        def __call__(self, source, on_frame):
            return [Tube(0, 0.9, masks, 1)]

    monkeypatch.setattr(predict, "VideoPredictor", Predictor)
    monkeypatch.setattr(predict, "_config", lambda *args: None)
    monkeypatch.setattr(predict, "check_device", lambda cfg: None)
    args = ["predict", str(tmp_path / "num"), "--out", str(tmp_path / "out")]

    def written():
        (video,) = json.loads((tmp_path / "out" / "video.json").read_text())["videos"]
        (entry,) = json.loads((tmp_path / "out" / "results.json").read_text())
        return entry["video_id"], video["id"], video["file_names"]

    assert CliRunner().invoke(app, [*args, "--gt", str(tmp_path / "all.json")]).exit_code == 0
    assert written() == (2, 2, ["sub/num/8.jpg", "sub/num/9.jpg"])
    assert CliRunner().invoke(app, args).exit_code == 0
    assert written() == (1, 1, ["num/8.jpg", "num/9.jpg"])
    content["videos"][1]["file_names"] = ["num/8.jpg"]
    (tmp_path / "all.json").write_text(json.dumps(content))
    result = CliRunner().invoke(app, [*args, "--gt", str(tmp_path / "all.json")])
    assert "has 2 frames, the ground truth's video 2 has 1 file_names" in result.stderr
    assert written() == (2, 2, ["num/8.jpg", "num/9.jpg"])


def test_prediction_does_not_depend_on_how_the_video_is_given(video, weights, tmp_path):
    from vis_core.engine import VideoPredictor

    cfg = small_config(tmp_path, tmp_path, "MODEL.WEIGHTS", str(weights), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
    predictor = VideoPredictor(cfg)
    frames = list(open_video(video))
    seen = []
    from_file = predictor(video, on_frame=lambda: seen.append(1))
    assert from_file == predictor(frames)
    assert len(seen) == 7
    assert len(predictor.class_names) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": "nowhere.mp4"}, "nowhere.mp4: no such file"),
        ({"weights": "nowhere.pth"}, "weights file not found: nowhere.pth"),
        ({"config": "nowhere.yaml"}, "config file not found: nowhere.yaml"),
        ({"option": "MODEL.ROI_HEAD.NUM_CLASSES=3"}, "unknown config key MODEL.ROI_HEAD.NUM_CLASSES (did you mean"),
        ({"option": "MODEL.ROI_HEADS.NUM_CLASSES=many"}, "MODEL.ROI_HEADS.NUM_CLASSES many"),
        ({"option": "MODEL.ROI_HEADS.NUM_CLASSES=9"}, "does not fit MaskTrackRCNN"),
        ({"option": "MODEL.DEVICE=warp"}, "MODEL.DEVICE: 'warp' cannot be used here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_mistakes_are_one_line(change, message, video, weights, tmp_path):
    from vis_core.errors import VisError

    args = predict_args(change.get("video", video), change.get("weights", weights), tmp_path / "out")
    if "config" in change:
        args[args.index(CONFIG)] = change["config"]
    if "option" in change:
        args += ["--set", change["option"]]
    result = CliRunner().invoke(app, list(map(str, args)))
    assert isinstance(result.exception, VisError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_an_error_ends_the_process_with_status_2_and_no_traceback(tmp_path):
    result = vis("predict", tmp_path / "none.mp4", "--config-file", CONFIG, "--weights", "x", "--out", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


def test_env_names_the_provider():
    result = CliRunner().invoke(app, ["env", "--json"])
    facts = json.loads(result.output)
    assert "bundled" in facts["detectron2"] or "official" in facts["detectron2"]
    assert torch.__version__.startswith(facts["torch"])
