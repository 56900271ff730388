"""The page of a data set's statistics: what it says, and how it looks in a browser."""

import json
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest

from vis_core.data.statistics import ClassStatistics, Statistics
from vis_core.visualization.statistics_page import statistics_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>addEventListener('load', () => {
  const overlaps = [];
  for (const plot of document.querySelectorAll('svg')) {
    const labels = [...plot.querySelectorAll('text')].slice(0, -1).map(t => [t.textContent, t.getBoundingClientRect()]);
    labels.slice(1).forEach(([text, box], i) => { if (box.left < labels[i][1].right + 1) overlaps.push(text); });
  }
  document.title = JSON.stringify({overlaps, plots: document.querySelectorAll('svg').length,
    wide: document.documentElement.scrollWidth > innerWidth}) })</script>"""


@pytest.fixture
def large():
    """Made-up counts like those of a large data set, with long tails and many frame sizes."""
    rng = np.random.default_rng(0)
    names = [f"a class with a long name {i}" if i % 7 == 0 else f"<class> {i}" for i in range(40)]
    sizes = ["720 x 1280", "1080 x 1920", "360 x 640", "1280 x 720", "1080 x 1440", "480 x 640", "2160 x 3840"]
    return Statistics(
        [ClassStatistics(name, *rng.integers(1, 50000, 3).tolist()) for name in names],
        video_lengths=rng.integers(20, 36, 300).tolist(),
        frame_sizes=Counter({size: 2**i for i, size in enumerate(reversed(sizes))}),
        track_lengths=rng.integers(0, 1500, 500).tolist(),
        gaps=rng.poisson(0.3, 500).tolist(),
        mask_sides=rng.gamma(2, 0.1, 5000).tolist(),
        objects_per_frame=rng.poisson(2, 5000).tolist(),
        tracks_per_video=rng.integers(1, 200, 300).tolist(),
        motion=[*rng.gamma(1, 0.05, 5000).tolist(), 8.0],
        box_occlusion=rng.beta(1, 5, 3000).tolist(),
        occlusion_levels=Counter({"no_occlusion": 13000, "severe_occlusion": 200}),
        meetings=rng.integers(0, 120, (40, 40)),
    )


def test_a_tail_is_named_and_rare_sizes_are_left_out(large):
    page = statistics_page(large, "Title", "sub")
    motion = page[page.index("<b>Motion</b>") :]
    assert re.findall(r"<text x[^>]*middle[^>]*>([^<]*)<", motion[: motion.index("</svg>")])[-1].startswith("≥ ")
    assert "videos, the 5 most frequent of 7 sizes" in page
    assert "1080×1920" in page and "2160×3840" not in page
    assert page.count("<svg") == 10


def test_a_data_set_of_nothing():
    page = statistics_page(Statistics([], meetings=np.zeros((0, 0), int)), "Title", "sub")
    assert "<svg" not in page and page.count("<p class='soft'>none</p>") == 9


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package has it")
def test_the_page_in_a_browser(large, tmp_path):
    """No axis has labels that run into each other, and nothing sticks out of the window."""
    text = statistics_page(large, "Title", "sub").replace("</body>", PROBE + "</body>")
    (tmp_path / "probe.html").write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,2400"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path}/probe.html"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert json.loads(re.search("<title>(.*?)</title>", dom)[1]) == {"overlaps": [], "plots": 10, "wide": False}
