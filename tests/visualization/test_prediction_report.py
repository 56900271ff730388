"""The page of one video's prediction: its content, and that it works in a browser."""

import json
import queue
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np
import pytest

from vis_core.data import open_video
from vis_core.tube import Tube, encode_masks
from vis_core.visualization.overlay import one_per_object, write_overlay
from vis_core.visualization.prediction_report import write_prediction_report
from vis_core.visualization.prediction_report_charts import curves, frame_ticks, runs
from vis_core.visualization.prediction_report_pictures import PER_TRACK, Thumbnails

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT, WIDTH, LENGTH, FPS = 120, 160, 30, 10


def moving(start: int, row: int, visible) -> list:
    masks = np.zeros((LENGTH, HEIGHT, WIDTH), bool)
    for t in range(LENGTH):
        masks[t, row : row + 30, start + 2 * t : start + 2 * t + 40] = True
    return [rle if t in visible else None for t, rle in enumerate(encode_masks(masks))]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three tracks: one always visible, one with a gap and scores by frame, one never. A class name needs escaping."""
    folder = tmp_path_factory.mktemp("report")
    scores = [None if 10 <= t < 20 else t / LENGTH for t in range(LENGTH)]
    seen = [t for t in range(LENGTH) if not 10 <= t < 20]
    tubes = one_per_object(
        [
            Tube(0, 0.9, moving(10, 10, range(LENGTH)), 0),
            Tube(1, 0.7, moving(20, 70, seen), 3, frame_scores=scores),
            Tube(1, 0.6, [None] * LENGTH, 5),
        ]
    )
    names = ["cat & dog", "</script><b>bird"]
    frames = open_video(np.random.default_rng(0).integers(0, 90, (LENGTH, HEIGHT, WIDTH, 3)).astype(np.uint8), fps=FPS)
    thumbnails = Thumbnails(tubes)
    write_overlay(frames, list(tubes.values()), names, folder / "overlay.mp4", sinks=[thumbnails.add])
    write_prediction_report(
        folder / "report.html",
        video_name="clips/<my> video",
        size=(HEIGHT, WIDTH),
        fps=FPS,
        num_frames=LENGTH,
        tubes=tubes,
        class_names=names,
        overlay=folder / "overlay.mp4",
        pictures=thumbnails.pictures,
    )
    return folder / "report.html"


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; collects texts and table rows."""

    VOID = ("meta", "br", "img", "rect", "path", "circle")

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and "td" in self.open:
            self.rows[-1].append(data)


def test_the_page_says_what_was_found(page):
    text = page.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    area = f"{100 * 1200 / (HEIGHT * WIDTH):.2f}"
    assert checker.rows[1:] == [
        ["cat & dog 0", "0.900", "30", "0", "29", "0", area, area],
        ["</script><b>bird 3", "0.700", "20", "0", "29", "1", area, area],
        ["</script><b>bird 5", "0.600", "0", "–", "–", "0", "–", "–"],
    ]
    assert "160x120, 30 frames, 10 frames/s, 3.0 s, 3 tracks shown" in " ".join(checker.text)
    assert not re.search(r'(src|href)="(?!data:)', text), "the page needs nothing from outside"
    assert "http" not in re.sub('base64,[^"]*', "", text), "what is encoded may hold any four letters"


def test_a_page_without_tracks_says_so(page, tmp_path):
    write_prediction_report(
        tmp_path / "report.html",
        video_name="none",
        size=(HEIGHT, WIDTH),
        fps=FPS,
        num_frames=LENGTH,
        tubes={},
        class_names=[],
        overlay=page.parent / "overlay.mp4",
        pictures={},
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert "No track has the score" in text and text.count("<section hidden>") == 1
    assert "No track has the score" not in page.read_text(encoding="utf-8")


def test_pictures_are_spread_over_the_frames_in_which_a_track_is_seen():
    tubes = {3: Tube(0, 1.0, moving(20, 70, range(10, 30)), 3)}
    thumbnails = Thumbnails(tubes)
    for t in range(LENGTH):
        thumbnails.add(t, np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((2 * HEIGHT, 2 * WIDTH, 3), 200, np.uint8))
    frames = [t for t, _ in thumbnails.pictures[3]]
    assert len(frames) == PER_TRACK and frames[0] == 10 and frames[-1] == 29
    assert all(address.startswith("data:image/jpeg;base64,") for _, address in thumbnails.pictures[3])


def test_parts_of_charts():
    assert runs([1, 1, 0, 0, 1]) == [(0, 2), (4, 5)] and runs([]) == [] and runs([0]) == []
    assert frame_ticks(9) == list(range(9)) and frame_ticks(100) == list(range(0, 100, 20))
    assert frame_ticks(0) == [0][:0]
    chart = curves([[1.0, 1.0, None, 3.0], [None] * 4], ["red", "blue"], "share")
    lines = re.findall(r'<path class="line"[^>]* d="([^"]*)"', chart)
    assert lines[0].count("M") == 2 and lines[0].count("L") == 1 and lines[1] == ""
    assert chart.count("<circle") == 1 and ">3</text>" in chart  # a point alone is a dot; the axis ends at 3
    long = curves([[0.5] * 2500 + [None] * 2500], ["red"], "share", top=1.0)
    assert 300 < long.count("L") < 1000


PROBE = """<script>
const wait = event => new Promise(done => player.addEventListener(event, done, {once: true}));
const report = {};
addEventListener('load', async () => {
  if (player.readyState < 2) await wait('loadeddata');
  report.size = [player.videoWidth, player.videoHeight];
  report.duration = player.duration;
  await player.play();
  await new Promise(done => setTimeout(done, 700));
  report.played = player.currentTime;
  const lane = document.querySelectorAll('.lane')[1], box = lane.getBoundingClientRect();
  const place = {clientX: box.left + box.width * (25.5 / 30), clientY: box.top + 5};
  lane.dispatchEvent(new MouseEvent('mousemove', place));
  report.hint = hint.textContent;
  report.picture = hint.querySelector('img') && hint.querySelector('img').src.slice(0, 15);
  const seeked = wait('seeked');
  lane.dispatchEvent(new MouseEvent('click', place));
  await seeked;
  report.clock = document.getElementById('clock').textContent;
  const canvas = Object.assign(document.createElement('canvas'), {width: 480, height: 360});
  const context = canvas.getContext('2d');
  context.drawImage(player, 0, 0);
  report.inside = [...context.getImageData(3 * 80, 3 * 32, 1, 1).data].slice(0, 3);
  report.wide = document.documentElement.scrollWidth - innerWidth;
  document.querySelectorAll('#tracks th')[2].click();
  report.order = [...document.querySelectorAll('#tracks tbody tr')].map(row => row.cells[2].textContent);
  document.querySelector('.name').click();
  report.on = document.querySelectorAll('.on').length;
  report.lines = document.querySelectorAll('.plot .line').length;
  await fetch('http://127.0.0.1:PORT/', {method: 'POST', mode: 'no-cors', body: JSON.stringify(report)});
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package has it")
def test_the_page_in_a_browser(page, tmp_path):
    """The video is decoded and plays; pointing, clicking and sorting work; nothing overflows."""
    answers = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    def chromium(name: str, *arguments: str) -> list[str]:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,1900"]
        command += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path / 'profile'}"]
        return [*command, *arguments, f"file://{tmp_path}/{name}"]

    shutil.copy(page, tmp_path / "page.html")
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        probe = PROBE.replace("PORT", str(server.server_port))
        text = page.read_text(encoding="utf-8").replace("</body>", probe + "</body>")
        (tmp_path / "probe.html").write_text(text, encoding="utf-8")
        # A window that stays open until the page has told what it saw.
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(chromium("probe.html", "--remote-debugging-port=0"), **silent) as browser:
            try:
                seen = answers.get(timeout=90)
            finally:
                browser.terminate()
        server.shutdown()
    assert seen["size"] == [480, 360] and seen["duration"] == pytest.approx(LENGTH / FPS, abs=0.05)
    assert seen["played"] > 0.2
    assert seen["hint"] == "</script><b>bird 3, frame 25, 6.25 %, score 0.83"
    assert seen["picture"] == "data:image/jpeg"
    assert seen["clock"].startswith("frame 25 of 30, 2.55 s")
    red, green, blue = seen["inside"]  # of the first track's tint
    assert max(red, green, blue) - min(red, green, blue) > 40
    assert seen["wide"] <= 0 and seen["order"] == ["30", "20", "0"]
    assert seen["on"] == 5 and seen["lines"] == 6  # name, bar, row and two curves of the first track
    command = chromium("page.html", f"--screenshot={tmp_path / 'shot.png'}")
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    shot = cv2.imread(str(tmp_path / "shot.png"))
    assert shot.shape[1] == 1100 and len(np.unique(shot.reshape(-1, 3), axis=0)) > 500
