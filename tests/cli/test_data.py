"""``vis data`` as a user calls it: what it writes and prints, its exit status, and one line for each mistake."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from vis_core.cli.main import app
from vis_core.data import open_video
from vis_core.errors import VisError
from vis_core.visualization.video_writer import VideoWriter

SMALL = ["--length", "3", "--height", "48", "--width", "64"]


def vis(*args):
    return CliRunner().invoke(app, ["data", *map(str, args)])


def ok(*args):
    result = vis(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "shapes"
    ok("shapes", folder, "--videos", 4, "--seed", 5, *SMALL)
    return folder


@pytest.fixture
def own(made, tmp_path):
    path = tmp_path / "all.json"
    path.write_text((made / "instances.json").read_text())
    return path


def test_shapes_follow_their_parameters(made, tmp_path):
    assert sorted(path.name for path in made.iterdir()) == ["JPEGImages", "instances.json"]
    content = json.loads((made / "instances.json").read_text())
    assert [video["length"] for video in content["videos"]] == [3] * 4
    assert len(list((made / "JPEGImages").rglob("*.jpg"))) == 12
    ok("shapes", tmp_path / "again", "--videos", 4, "--seed", 5, *SMALL)
    assert (tmp_path / "again" / "instances.json").read_bytes() == (made / "instances.json").read_bytes()
    ok("shapes", tmp_path / "other", "--videos", 1, "--no-shadows", "--image-format", "png", *SMALL)
    assert len(list((tmp_path / "other").rglob("*.png"))) == 3


def test_convert_there_and_back(made, tmp_path):
    frames = made / "JPEGImages"
    ok("convert", made / "instances.json", tmp_path / "davis", "--to", "davis", "--frames", frames, "--copy-frames")
    result = ok("convert", tmp_path / "davis", tmp_path / "back.json")
    assert "davis to ytvis: 4 videos, 12 frames" in result.output
    assert f"frames are relative to {tmp_path / 'davis' / 'JPEGImages'}" in result.output
    ok("check", tmp_path / "back.json", "--frames", tmp_path / "davis" / "JPEGImages")
    before, after = (json.loads(path.read_text()) for path in (made / "instances.json", tmp_path / "back.json"))
    for track, again in zip(before["annotations"], after["annotations"], strict=True):
        assert {key: track[key] for key in again} == again


def test_convert_replaces_a_json_only_by_force(made, own):
    own.write_text("corrected by hand")
    result = vis("convert", made / "instances.json", own)
    assert str(result.exception) == f"{own}: exists already; name a new file, or replace it with --force"
    assert own.read_text() == "corrected by hand"
    ok("convert", made / "instances.json", own, "--force")
    assert len(json.loads(own.read_text())["videos"]) == 4


def test_check_tells_repairs_and_ends_with_a_status(own):
    content = json.loads(own.read_text())
    used = {entry["category_id"] for entry in content["annotations"]}
    content["categories"] = [entry for entry in content["categories"] if entry["id"] in used]
    for number, entry in enumerate(content["categories"]):
        for annotation in content["annotations"]:
            if annotation["category_id"] == entry["id"]:
                annotation["category_id"] = number + 1
        entry["id"] = number + 1
    content["annotations"][0]["areas"][0] = 1
    own.write_text(json.dumps(content))
    assert "1 warning, 1 of them fixable (--fix); frames were not looked at" in ok("check", own).output
    content["annotations"][0]["category_id"] = 77
    own.write_text(json.dumps(content))
    result = vis("check", own, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["errors"], report["warnings"]) == (1, 1)
    assert report["problems"][0]["field"] == "category_id" and report["problems"][0]["annotation"] == 1
    result = vis("check", own, "--fix")
    assert result.exit_code == 1 and "1 error, 0 warnings, 1 repaired" in result.output
    assert json.loads((own.parent / "all.json.bak").read_text()) == content
    fixed = json.loads(own.read_text())
    assert fixed["annotations"][0]["areas"][0] != 1
    vis("check", own, "--fix")
    assert not (own.parent / "all.json.bak2").exists(), "nothing was repaired"
    fixed["annotations"][0]["areas"][0] = 2
    own.write_text(json.dumps(fixed))
    vis("check", own, "--fix")
    assert json.loads((own.parent / "all.json.bak").read_text()) == content, "the original stays"
    assert json.loads((own.parent / "all.json.bak2").read_text()) == fixed


def test_stats_as_text_json_and_page(own, tmp_path):
    result = ok("stats", own, "--html", tmp_path / "pages" / "stats.html")
    assert "classes that meet in a video" in result.stdout and "frames per track" in result.stdout
    assert "<svg" in (tmp_path / "pages" / "stats.html").read_text()
    summary = json.loads(ok("stats", own, "--json").stdout)["summary"]
    assert (summary["videos"], summary["frames"]) == (4, 12)


def test_browse_needs_no_other_file(own, made, tmp_path):
    args = ["browse", own, "--frames", made / "JPEGImages", "--out", tmp_path / "g.html", "--num-frames", 2]
    ok(*args)
    page = (tmp_path / "g.html").read_text()
    assert page.count("<figure") == 4 and page.count("data:image/jpeg;base64,") == 8
    assert "http" not in re.sub('base64,[^"]*', "", page) and 'src="data:' in page
    ok(*args, "--max-videos", 2)
    page = (tmp_path / "g.html").read_text()
    assert page.count("<figure") == 2 and "2 of 4 videos" in page


def test_split_writes_parts_that_add_up(own, tmp_path):
    result = ok("split", own, "--val", 0.25, "--test", 0.25, "--out", tmp_path / "parts")
    parts = [json.loads((tmp_path / "parts" / f"{name}.json").read_text()) for name in ("train", "val", "test")]
    assert [len(part["videos"]) for part in parts] == [2, 1, 1]
    whole = json.loads(own.read_text())
    together = [entry["id"] for part in parts for entry in part["annotations"]]
    assert sorted(together) == [entry["id"] for entry in whole["annotations"]]
    assert all(part["categories"] == whole["categories"] for part in parts)
    assert len(result.stdout.strip().splitlines()) == 3


def test_split_tells_which_classes_a_part_lacks(own, tmp_path):
    content = json.loads(own.read_text())
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "never"}]
    for number, entry in enumerate(content["annotations"]):
        entry["category_id"] = 2 if number == 0 else 1
    own.write_text(json.dumps(content))
    result = ok("split", own, "--val", 0.25, "--out", tmp_path / "parts")
    (note,) = result.stderr.strip().splitlines()
    lacking = [name for name in ("train", "val") if "dog 0" in next(x for x in result.stdout.splitlines() if name in x)]
    assert note == f"note: {tmp_path / 'parts' / lacking[0]}.json has no track of dog" and len(lacking) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(category_id=77), "annotation 1, field 'category_id': 77 is not among"),
        (lambda c: c["annotations"][0].update(category_id=-1), "annotation 1, field 'category_id': -1 is not among"),
        (lambda c: c["annotations"][0].update(category_id=[]), "annotation 1, field 'category_id': [] is not among"),
        (lambda c: c["annotations"][0].pop("video_id"), "annotation 1, field 'video_id': None is not among"),
        (
            lambda c: c["categories"][0].pop("name"),
            "'shape'} has no integer 'id' or no 'name'",
        ),
        (lambda c: c["categories"][0].pop("id"), "has no integer 'id' or no 'name'"),
        (lambda c: c["categories"][1].update(id=1), "field 'categories': id 1 occurs twice"),
        (lambda c: c["categories"].clear(), "field 'categories' is missing or empty"),
        (lambda c: c["videos"][0].pop("id"), "entry 0 of 'videos', field 'id': expected an integer"),
        (lambda c: c["videos"].append(c["videos"][0]), "video 1, field 'id': occurs twice"),
        (lambda c: c["videos"].append(3), "entry 4 of 'videos', field 'id': is missing"),
    ],
)
def test_split_names_what_does_not_fit_together(change, message, own):
    content = json.loads(own.read_text())
    change(content)
    own.write_text(json.dumps(content))
    result = vis("split", own)
    assert isinstance(result.exception, VisError), (result.output, result.exception)
    assert str(result.exception).startswith(str(own)) and message in str(result.exception)


def test_frames_of_a_video(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", fps=10) as writer:
        for t in range(7):
            writer.write(np.full((60, 80, 3), 30 * t, np.uint8))
    ok("frames", tmp_path / "clip.mp4", "--out", tmp_path / "frames", "--every", 3, "--short-side", 30)
    source = open_video(tmp_path / "frames" / "clip")
    assert (len(source), source.height, source.width) == (3, 30, 40)
    assert [round(float(frame.mean()) / 30) for frame in source] == [0, 3, 6]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["convert", "nowhere", "out.json"], "nowhere: no such file or folder"),
        (["convert", "JSON", "out", "--to", "yolo"], "--to yolo: not one of ytvis, coco-video"),
        (["convert", "JSON", "out", "--to", "davis", "--copy-frames"], "--copy-frames needs --frames"),
        (["convert", "JSON", "out.json", "--classes", "cat"], "is not in --classes"),
        (["check", "nowhere.json"], "nowhere.json: cannot be read"),
        (["stats", "TEXT"], "not valid json"),
        (["split", "JSON", "--val", "1.5"], "--val 1.5 --test 0: shares between 0 and 1"),
        (["browse", "JSON", "--frames", "nowhere"], "file not found"),
        (["shapes", "out", "--difficulty", "3"], "ShapesConfig.difficulty: must lie in [0, 1]"),
        (["shapes", "FOLDER"], "exists already; name a new folder"),
        (["frames", "nowhere.mp4", "--out", "out"], "nowhere.mp4: no such file"),
    ],
)
def test_mistakes_are_one_line(args, message, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("{")
    places = {"JSON": own, "TEXT": "text.json", "FOLDER": tmp_path}
    result = vis(*(places.get(arg, arg) for arg in args))
    assert isinstance(result.exception, VisError), (result.output, result.exception)
    assert message in str(result.exception) and "\n" not in str(result.exception)


@pytest.mark.parametrize("command", ["convert", "check", "stats", "browse", "split", "shapes", "frames"])
def test_help_has_an_example(command):
    assert f"Example: vis data {command}" in " ".join(ok(command, "--help").output.replace("│", " ").split())
