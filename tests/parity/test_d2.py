"""``detectron2``, whoever provides it, behaves as recorded from the official package.

The folder's own script holds the checks, in sections, and judges the values; here it runs once per recording, in a
process of its own, since it hides the GPUs and changes global state.
"""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import root

import vis_core.host

FOLDER = root() / "d2"
RECORDINGS = sorted(FOLDER.glob("facts_*.json"))
KEY_LISTS = sorted(FOLDER.glob("keys_*.json"))


def recorded(recording: Path) -> dict[str, int]:
    """{section: number of recorded values}"""
    names = list(json.loads(recording.read_text())["values"]) + np.load(recording.with_suffix(".npz")).files
    sections = [name.partition("/")[0] for name in names]
    return {s: sections.count(s) for s in sections}


SECTIONS = [(recording, section) for recording in RECORDINGS for section in recorded(recording)]


@functools.cache
def report(recording: Path, sections: tuple[str, ...]) -> str:
    command = [sys.executable, str(FOLDER / "d2_facts.py"), "--check", str(recording.with_suffix("")), "-v"]
    command += ["--append-path", str(vis_core.host.HOST_ROOT), "--only", ",".join(sections)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1200, env={**os.environ, "MPLBACKEND": "Agg"})
    assert "facts: passed" in run.stdout, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def selected_sections(request) -> tuple[tuple[Path, str], ...]:
    """The sections among the tests that were asked for, so that one of them alone is quick."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {(p["recording"], p["section"]) for p in calls if "section" in p and "recording" in p}
    return tuple(case for case in SECTIONS if case in wanted)


@pytest.mark.parametrize(("recording", "section"), SECTIONS, ids=lambda p: p.stem if isinstance(p, Path) else p)
def test_section(recording, section, selected_sections):
    text = report(recording, tuple(s for r, s in selected_sections if r == recording))
    # "  <section>  <passed> of <all>" lines, each followed by what did not pass
    blocks = re.split(r"^  (\w+) +(\d+) of +(\d+)\n", text, flags=re.M)
    results = {name: (int(n), int(total), why) for name, n, total, why in zip(*(blocks[i::4] for i in (1, 2, 3, 4)))}
    passed, total, why = results[section]
    assert total == recorded(recording)[section]
    assert passed == total, why


@pytest.mark.parametrize("key_list", KEY_LISTS, ids=lambda p: p.stem)
def test_state_dict_keys(key_list):
    """A stock model has the recorded parameters and buffers, by name and shape."""
    import torch
    from detectron2.modeling import build_backbone, build_model

    cfg, is_detector = config_of(key_list.stem)
    with torch.device("meta"):
        model = build_model(cfg) if is_detector else build_backbone(cfg)
    state = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert state == json.loads(key_list.read_text())


def config_of(name: str):
    """The config of the model that a key list's name describes, and whether it is a detector or a backbone."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "meta"
    backbone = re.fullmatch(r"keys_resnet(\d+)_backbone_only", name)
    if backbone:
        cfg.MODEL.RESNETS.DEPTH = int(backbone[1])
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        return cfg, False

    detector = re.fullmatch(r"keys_mask_rcnn_[RX](\d+)(?:_(\d+)x(\d+)d)?_FPN_(\d+)cls", name)
    assert detector, f"{name}: a key list of an unknown kind of model"
    stages, levels = ["res2", "res3", "res4", "res5"], ["p2", "p3", "p4", "p5"]
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = int(detector[1])
    if detector[2]:
        cfg.MODEL.RESNETS.NUM_GROUPS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = int(detector[2]), int(detector[3])
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = stages
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = [*levels, "p6"]
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", levels
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = int(detector[4])
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 2
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 4
    return cfg, True
