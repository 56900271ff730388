import json
import logging
import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vis_core.cli.evaluate import evaluate
from vis_core.cli.submit import submit
from vis_core.errors import DataError
from vis_core.evaluation import evaluate_splits, evaluate_tracks

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures" / "evaluation"

app = typer.Typer()
app.command()(evaluate)
app.command()(submit)


def run(*arguments) -> str:
    logging.disable(logging.WARNING)  # notes go to the log
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    logging.disable(logging.NOTSET)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def files(name: str) -> tuple[Path, Path]:
    return FIXTURES / name / "gt.json", FIXTURES / name / "results.json"


def test_the_table_shows_the_numbers():
    gt, results = files("medium")
    stats = evaluate_tracks(gt, results).stats
    table = run("evaluate", results, "--gt", gt)
    rows = [line.split() for line in table.splitlines()]
    at = next(i for i, row in enumerate(rows) if row[:1] == ["AP"])
    assert rows[at + 1][:3] == [f"{100 * stats[name]:.1f}" for name in ("AP", "AP50", "AP75")]
    assert any(row[:1] == ["cat3"] for row in rows)


def test_json_has_everything():
    gt, results = files("ovis_occ")
    content = json.loads(run("evaluate", results, "--gt", gt, "--json", "--boundary", "--hota"))
    stats = evaluate_tracks(gt, results, occlusion=True).stats
    expected = {name: None if value < 0 else 100 * value for name, value in stats.items()}
    assert content["tube_mask"]["stats"] == expected
    assert content["tube_boundary"]["stats"]["AP"] < content["tube_mask"]["stats"]["AP"]
    assert set(content["hota"]) >= {"HOTA", "DetA", "AssA"}
    assert set(content["tube_mask"]["categories"]["cat1"]) == {"AP", "AP50", "AR100"}


def test_chosen_and_long_videos(tmp_path):
    gt, results = files("medium")
    (tmp_path / "videos.json").write_text("[1, 2, 3, 4]")
    (tmp_path / "long.json").write_text("[3, 4, 5]")
    options = ["--videos", tmp_path / "videos.json", "--long-videos", tmp_path / "long.json"]
    stats = json.loads(run("evaluate", results, "--gt", gt, "--json", *options))["tube_mask"]["stats"]
    metrics = evaluate_splits(gt, results, {"all": [1, 2, 3, 4], "short": [1, 2], "long": [3, 4]})
    assert stats["AP"] == 100 * metrics["all"].stats["AP"]
    assert (stats["AP_S"], stats["AP_L"]) == tuple(100 * metrics[name].stats["AP"] for name in ("short", "long"))
    assert stats["AP_SL"] == (stats["AP_S"] + stats["AP_L"]) / 2
    (tmp_path / "videos.json").write_text('{"1": 2}')
    with pytest.raises(DataError, match="not a json list of video ids"):
        run("evaluate", results, "--gt", gt, *options)


def test_videos_without_a_track_are_told(tmp_path):
    gt, results = files("medium")
    entries = json.loads(results.read_text())
    (tmp_path / "part.json").write_text(json.dumps([entry for entry in entries if entry["video_id"] == 1]))
    (tmp_path / "videos.json").write_text("[1, 2, 3]")
    (tmp_path / "first.json").write_text("[1]")
    args = ["evaluate", tmp_path / "part.json", "--gt", gt, "--json"]
    told = CliRunner().invoke(app, [str(arg) for arg in (*args, "--videos", tmp_path / "videos.json")])
    assert "note: 2 of 3 videos have no track" in told.stderr and json.loads(told.stdout)
    told = CliRunner().invoke(app, [str(arg) for arg in (*args, "--videos", tmp_path / "first.json")])
    assert "have no track" not in told.stderr


def test_strict_by_default():
    gt, results = files("nasty")
    with pytest.raises(DataError):
        run("evaluate", results, "--gt", gt)
    content = json.loads(run("evaluate", results, "--gt", gt, "--lenient", "--json"))
    assert content["tube_mask"]["stats"]["AP"] == 100 * evaluate_tracks(gt, results, strict_lengths=False).stats["AP"]


def test_report_of_lenient_results(tmp_path):
    gt, results = files("nasty")
    run("evaluate", results, "--gt", gt, "--lenient", "--report", tmp_path / "report.html")
    assert "Worst videos" in (tmp_path / "report.html").read_text()


def test_no_ground_truth(tmp_path):
    gt, results = files("small")
    bare = {key: value for key, value in json.loads(gt.read_text()).items() if key != "annotations"}
    (tmp_path / "gt.json").write_text(json.dumps(bare))
    with pytest.raises(DataError, match="no annotations"):
        run("evaluate", results, "--gt", tmp_path / "gt.json")
    run("submit", results, "--gt", tmp_path / "gt.json", "--out", tmp_path / "out.zip")
    assert zipfile.is_zipfile(tmp_path / "out.zip")


def test_a_submission_is_the_file(tmp_path):
    gt, results = files("medium")
    told = run("submit", results, "--gt", gt, "--out", tmp_path / "out.zip")
    assert "92 tracks in 12 videos" in told
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert archive.read("results.json") == results.read_bytes()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"score": 1.5}, "'score' is 1.5, expected 0 to 1"),
        ({"score": -0.1}, "'score' is -0.1, expected 0 to 1"),
        ({"video_id": 99}, "video_id 99 is not in"),
        ({"category_id": 99}, "category_id 99 is not in"),
        ({"segmentations": []}, "0 segmentations, the video has"),
        ({"segmentations": [{"size": [160, 120], "counts": [19200]}] * 4}, "'counts' is not a string"),
    ],
)
def test_what_a_server_would_refuse_is_not_packed(tmp_path, change, words):
    gt, results = files("small")
    entries = json.loads(results.read_text())
    entries[0].update(change)
    (tmp_path / "results.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=words):
        run("submit", tmp_path / "results.json", "--gt", gt)
    assert not (tmp_path / "results.zip").exists()
