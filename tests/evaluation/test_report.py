import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from vis_core.evaluation import GroundTruth, Results, evaluate_tracks
from vis_core.evaluation.hota import evaluate_hota
from vis_core.rle import encode_dense
from vis_core.visualization.evaluation_report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT, WIDTH, LENGTH = 90, 160, 3


def square(column: int, row: int = 20) -> dict:
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, row : row + 30, column : column + 30] = True
    return {"size": [HEIGHT, WIDTH], "counts": encode_dense(mask)[0]}


@pytest.fixture
def data(tmp_path):
    """Two videos with frames; the second one's results are wrong in several ways. Names need escaping."""
    gt = {
        "videos": [
            {
                "id": v,
                "height": HEIGHT,
                "width": WIDTH,
                "length": LENGTH,
                "file_names": [f"video <{v}>/{t}.jpg" for t in range(LENGTH)],
            }
            for v in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat & dog"}, {"id": 2, "name": "<b>bird</b>"}, {"id": 3, "name": "never"}],
        "annotations": [
            {"id": 4 * v + n, "video_id": v, "category_id": n, "segmentations": [square(50 * n - 30)] * LENGTH}
            for v in (1, 2)
            for n in (1, 2)
        ],
    }
    results = [
        {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [square(20)] * LENGTH},
        {"video_id": 1, "category_id": 2, "score": 0.8, "segmentations": [square(71)] * LENGTH},
        {"video_id": 2, "category_id": 2, "score": 0.7, "segmentations": [square(20)] * LENGTH},
        {"video_id": 2, "category_id": 1, "score": 0.6, "segmentations": [square(120, 50), None, None]},
    ]
    rng = np.random.default_rng(0)
    for video in gt["videos"]:
        for name in video["file_names"]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    gt_file, results_file = tmp_path / "gt.json", tmp_path / "results.json"
    gt_file.write_text(json.dumps(gt))
    results_file.write_text(json.dumps(results))
    return gt_file, results_file


def report(data, out, **options) -> str:
    ground_truth, results = (kind.load(path) for kind, path in zip((GroundTruth, Results), data))
    write_report(out, ground_truth, results, evaluate_tracks(ground_truth, results), **options)
    return out.read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.counts = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in ("meta", "img", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_says_what_was_measured(data, tmp_path):
    boundary = evaluate_tracks(*data, iou_type="boundary")
    hota = {name: 100 * value for name, value in evaluate_hota(*data).mean.summary().items()}
    page = report(data, tmp_path / "report.html", boundary=boundary, hota=hota, frames=tmp_path)
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    text = " ".join(" ".join(checker.text).split())
    metrics = evaluate_tracks(*data)
    for expected in (
        "2 videos, 4 objects, 4 tracks",
        f"{100 * metrics.stats['AP']:.1f} AP",
        f"{hota['HOTA']:.1f} HOTA",
        "boundary AP50",
        "cat & dog",
        "<b>bird</b>",
        "video 2 (video <2>)",
        "1 class, 1 background, 1 missed",
        "no errors",
    ):
        assert expected in text, expected
    assert checker.counts["img"] == 4 and checker.counts["svg"] == 3  # two pairs; the curves and two classes
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs nothing from outside"


def test_without_frames_there_are_no_pictures(data, tmp_path):
    assert "<img" not in report(data, tmp_path / "report.html")
    assert "<img" not in report(data, tmp_path / "report.html", frames=tmp_path / "elsewhere")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_name_that_leads_out_of_the_folder_of_frames_gets_no_picture(data, tmp_path, absolute):
    (tmp_path / "frames").mkdir()
    gt = json.loads(data[0].read_text())
    for video in gt["videos"]:
        video["file_names"] = [str(tmp_path / name) if absolute else f"../{name}" for name in video["file_names"]]
    data[0].write_text(json.dumps(gt))
    assert "<img" not in report(data, tmp_path / "report.html", frames=tmp_path / "frames")


@pytest.mark.parametrize("objects", [True, False])
def test_a_page_without_numbers_is_still_drawn(objects, data, tmp_path):
    """Results without any track; and a class list without any object."""
    gt = json.loads(data[0].read_text())
    data[0].write_text(json.dumps(gt if objects else {**gt, "annotations": []}))
    data[1].write_text("[]")
    page = report(data, tmp_path / "report.html")
    assert "nan" not in page
    assert ("width:100.00%" in page) == objects


def test_only_the_chosen_videos(data, tmp_path):
    page = report(data, tmp_path / "report.html", video_ids=[1])
    assert "1 videos, 2 objects, 2 tracks" in page and "video 2" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package has it")
def test_the_page_in_a_browser(data, tmp_path):
    """Every picture loads, nothing overflows, the screenshot is not blank."""
    page = report(data, tmp_path / "report.html", frames=tmp_path)
    probe = (
        "<script>addEventListener('load', () => { document.title = JSON.stringify({"
        "pictures: [...document.images].map(i => i.naturalWidth),"
        "wide: document.documentElement.scrollWidth - innerWidth,"
        "bars: [...document.querySelectorAll('.bars i')].map(i => i.getBoundingClientRect().width),"
        "cells: document.querySelectorAll('.confusion td').length }) })</script>"
    )
    (tmp_path / "probe.html").write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")

    def chromium(*arguments: str) -> str:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,2400"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", *arguments, f"file://{tmp_path}/probe.html"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    found = re.search(r"<title>(.*?)</title>", chromium("--dump-dom")).group(1)
    seen = json.loads(found)
    assert seen["pictures"] == [480] * 4
    assert seen["wide"] <= 0 and seen["cells"] == 9
    assert max(seen["bars"]) > 100
    chromium(f"--screenshot={tmp_path / 'shot.png'}")
    shot = cv2.imread(str(tmp_path / "shot.png"))
    assert shot.shape[1] == 1100 and len(np.unique(shot.reshape(-1, 3), axis=0)) > 500
