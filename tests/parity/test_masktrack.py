"""MaskTrack R-CNN against mmtracking 0.14, mmdetection 3.3 and the authors' code of 2019 (fixtures/masktrack).

Tolerances are those that the fixtures' README suggests: features 1e-4, logits 5e-4, boxes 5e-3 px, scores 1e-4,
mask IoU 0.999, losses 1e-4 relative; identities, labels and counts exact.
"""

import json

import numpy as np
import pytest
import torch
from closeness import close
from detectron2.modeling import build_model, detector_postprocess
from detectron2.structures import Boxes, ImageList
from masktrack_model import as_frames, clip_frame, config, load, published_shapes, unpack_masks

import vis_core  # noqa: F401  makes detectron2 importable
from projects.masktrack_rcnn.tracker import ExemplarTracker
from vis_core.checkpoint import find_converter
from vis_core.modeling.mmdet import assign_levels
from vis_core.tracking import dot_product_logits
from vis_core.tube import decode_mask

FEATURES, LOGITS, BOXES, SCORES, MASK_IOU = 1e-4, 5e-4, 5e-3, 1e-4, 0.999


def stats(x: torch.Tensor) -> list[float]:
    x = x.double()
    return [x.mean().item(), x.std(correction=0).item(), x.abs().max().item(), x.sum().item()]


def close_stats(x: torch.Tensor, theirs: np.ndarray) -> None:
    """Mean, deviation and maximum at the features' tolerance; the sum at its relative size."""
    ours = stats(x)
    close(ours[:3], theirs[:3], FEATURES)
    assert ours[3] == pytest.approx(theirs[3], abs=FEATURES * x.numel())


def mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) IoU of pairs of masks (n, H, W); two empty masks agree."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    union = (a | b).sum(1)
    return np.where(union > 0, (a & b).sum(1) / np.maximum(union, 1), 1.0)


@pytest.fixture(scope="module")
def fixtures(fixtures_root):
    return fixtures_root / "masktrack"


@pytest.fixture(scope="module")
def r50(fixtures_root):
    return load(fixtures_root, "r50")


@pytest.mark.parametrize("variant", ["r50", "r101", "x101"])
def test_every_published_key_has_its_place(fixtures_root, variant):
    shapes = published_shapes(fixtures_root, variant)
    converter = find_converter(shapes)
    converted = converter.convert({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    ours = build_model(config(variant)).state_dict()
    assert converted.keys() == ours.keys()
    assert all(converted[key].shape == ours[key].shape for key in ours)


def test_original_keys_have_their_place(fixtures_root):
    shapes = published_shapes(fixtures_root, "original_r50")
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    converted = find_converter(weights).convert(weights)
    ours = build_model(config("r50")).state_dict()
    assert converted.keys() == ours.keys()
    assert all(converted[key].shape == ours[key].shape for key in ours)


@torch.no_grad()
def test_forward_r50(fixtures, r50):
    z = np.load(fixtures / "forward_r50.npz")
    images = r50.preprocess_image([{"image": frame} for frame in as_frames(z["frames"])])
    stages = r50.backbone.bottom_up(images.tensor[:1])
    features = r50.backbone(images.tensor)
    first = {name: x[:1] for name, x in features.items()}
    for name in ("res2", "res3", "res4", "res5"):
        x = stages[name][0]
        close(x[:: len(x) // 8], z[name], FEATURES)
        close_stats(x, z[f"{name}_stats"])
    for name in ("p2", "p3", "p4", "p5", "p6"):
        close(first[name][0, ::32], z[name], FEATURES)
        close_stats(first[name][0], z[f"{name}_stats"])

    rpn = r50.proposal_generator
    logits, deltas = rpn.rpn_head([first[name] for name in rpn.in_features])
    for name, level_logits, level_deltas in zip(rpn.in_features, logits, deltas):
        close(level_logits[0], z[f"rpn_logits_{name}"], FEATURES)
        if f"rpn_deltas_{name}" in z:
            close(level_deltas[0], z[f"rpn_deltas_{name}"], FEATURES)
        close_stats(level_logits, z[f"rpn_stats_{name}"][:4])
        close_stats(level_deltas, z[f"rpn_stats_{name}"][4:])
    close(torch.stack(list(rpn.anchor_generator.cell_anchors)), z["base_anchors"], 1e-5)
    (proposals,), _ = rpn(ImageList(images.tensor[:1], images.image_sizes[:1]), first, None)
    close(proposals.proposal_boxes.tensor, z["proposals"][:, :4], BOXES)
    close(proposals.objectness_logits.sigmoid(), z["proposals"][:, 4], SCORES)

    rois = Boxes(torch.from_numpy(z["rois"]))
    heads = r50.roi_heads
    maps = [first[name] for name in heads.box_in_features]
    assert assign_levels(rois.tensor, len(maps)).tolist() == z["roi_level"].tolist()
    pooled = heads.box_pooler(maps, [rois])
    close(pooled[:, ::32], z["box_feats"], FEATURES)
    cls_score, bbox_pred = heads.box_predictor(heads.box_head(pooled))
    close(cls_score, z["cls_score"], LOGITS)
    close(bbox_pred, z["bbox_pred"], LOGITS)
    num_shown = z["decoded_clipped"].shape[1]
    decoded = heads.box_predictor.box2box_transform.apply_deltas(bbox_pred, rois.tensor)[:, :num_shown]
    decoded = Boxes(decoded.reshape(-1, 4))
    decoded.clip(images.image_sizes[0])
    close(decoded.tensor.reshape(len(rois), -1), z["decoded_clipped"], BOXES)

    pooled = heads.mask_pooler(maps, [rois])
    close(pooled[:, ::128], z["mask_feats"], FEATURES)
    mask_logits = heads.mask_head.layers(pooled)[torch.arange(len(rois)), torch.from_numpy(z["mask_labels"])]
    close(mask_logits, z["mask_logits"], LOGITS)

    second = {name: x[1:] for name, x in features.items()}
    rois_cur = Boxes(torch.from_numpy(z["rois_cur"]))
    previous, current = r50.track_head(first, [rois]), r50.track_head(second, [rois_cur])
    close(previous[: len(z["embed_prev"])], z["embed_prev"], FEATURES)
    close(current[: len(z["embed_cur"])], z["embed_cur"], FEATURES)
    close(dot_product_logits(current, previous), z["track_logits"], LOGITS)

    tracker = ExemplarTracker()
    scores = torch.from_numpy(z["match_det_scores"])
    tracker.step(rois.tensor, scores, torch.from_numpy(z["match_prev_labels"]), previous)
    ours = tracker.match(rois_cur.tensor, scores, torch.from_numpy(z["match_cur_labels"]), current)
    close(ours, z["match_score"], LOGITS)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["r101", "x101"])
def test_forward_large_backbones(fixtures_root, fixtures, variant):
    z = np.load(fixtures / "forward_r101_x101.npz")
    height, width = (4 * side for side in z[f"{variant}/p2"].shape[1:])
    model = load(fixtures_root, variant)
    images = model.preprocess_image([{"image": x} for x in as_frames(clip_frame(2, height, width)[None])])
    for name, x in model.backbone.bottom_up(images.tensor).items():
        close_stats(x[0], z[f"{variant}/{name}_stats"])
    for name, x in model.backbone(images.tensor).items():
        close(x[0, ::64], z[f"{variant}/{name}"], FEATURES)
        close_stats(x[0], z[f"{variant}/{name}_stats"])


def clips(z) -> list[str]:
    return sorted({key.split("/")[0] for key in z.files})


@torch.no_grad()
def test_detections_end_to_end(fixtures, r50):
    z = np.load(fixtures / "e2e_clips.npz")
    for clip in clips(z):
        height, width = z[f"{clip}/ori_shape"].tolist()
        for t, frame in enumerate(as_frames(z[f"{clip}/frames"])):
            images = r50.preprocess_image([{"image": frame}])
            features = r50.backbone(images.tensor)
            found = r50.roi_heads.forward_with_given_boxes(features, r50.detect(images, features))[0]
            found = detector_postprocess(found, height, width)
            theirs = {key: z[f"{clip}/{t}/det_{key}"] for key in ("boxes", "scores", "labels", "masks")}
            assert found.pred_classes.tolist() == theirs["labels"].tolist()
            close(found.pred_boxes.tensor, theirs["boxes"], BOXES)
            close(found.scores, theirs["scores"], SCORES)
            ious = mask_iou(found.pred_masks.numpy(), unpack_masks(theirs["masks"], height, width))
            assert ious.min(initial=1) >= MASK_IOU


class RecordingTracker(ExemplarTracker):
    """Keeps the match scores of every frame in which there was something to match with."""

    def reset(self):
        super().reset()
        self.tables = []
        self.recorded = getattr(self, "recorded", [])  # one list for the model's copies of this tracker
        self.recorded.append(self.tables)

    def match(self, *args):
        self.tables.append(super().match(*args))
        return self.tables[-1]


@pytest.mark.parametrize(
    ("order", "name", "frames_per_batch"), [("class_major", "mmt", 1), ("score", "mm3", 1), ("score", "mm3", 3)]
)
def test_tracks_end_to_end(fixtures, r50, order, name, frames_per_batch, monkeypatch):
    z = np.load(fixtures / "e2e_clips.npz")
    tracker = RecordingTracker(detection_order=order)
    monkeypatch.setattr(r50, "tracker", tracker)
    monkeypatch.setattr(r50, "frames_per_batch", frames_per_batch)
    for clip in clips(z):
        height, width = z[f"{clip}/ori_shape"].tolist()
        for t, ours in enumerate(r50.stream(as_frames(z[f"{clip}/frames"]), height, width)):
            kept = z[f"{clip}/{t}/{name}_index"]
            assert ours.pred_ids.tolist() == z[f"{clip}/{t}/{name}_ids"].tolist()
            assert ours.pred_classes.tolist() == z[f"{clip}/{t}/det_labels"][kept].tolist()
            close(ours.scores, z[f"{clip}/{t}/det_scores"][kept], SCORES)
            close(ours.pred_boxes.tensor, z[f"{clip}/{t}/det_boxes"][kept], BOXES)
            masks = unpack_masks(z[f"{clip}/{t}/det_masks"], height, width)[kept]
            assert mask_iou(ours.pred_masks.numpy(), masks).min(initial=1) >= MASK_IOU
        theirs = [z[key] for key in z.files if key.startswith(f"{clip}/") and key.endswith(f"{name}_match")]
        assert not theirs or len(tracker.recorded[-1]) == len(theirs)
        for mine, table in zip(tracker.recorded[-1], theirs):
            close(mine, table, LOGITS)


@pytest.mark.parametrize(("order", "name"), [("class_major", "mmt"), ("score", "mm3")])
@torch.no_grad()
def test_result_entries(fixtures, r50, order, name, monkeypatch):
    z = np.load(fixtures / "e2e_clips.npz")
    entries = json.loads((fixtures / "results_format.json").read_text())
    monkeypatch.setattr(r50, "tracker", ExemplarTracker(detection_order=order))
    for clip in clips(z):
        theirs = entries[f"{clip}/{name}"]
        height, width = z[f"{clip}/ori_shape"].tolist()
        (output,) = r50([{"image": as_frames(z[f"{clip}/frames"]), "height": height, "width": width}])
        ours = [tube.to_json(entry["video_id"], tube.category + 1) for tube, entry in zip(output["tubes"], theirs)]
        assert len(output["tubes"]) == len(theirs)
        for mine, entry in zip(ours, theirs):
            assert mine.keys() == entry.keys()
            assert mine["category_id"] == entry["category_id"]
            assert mine["score"] == pytest.approx(entry["score"], abs=SCORES)
            assert [s is None for s in mine["segmentations"]] == [s is None for s in entry["segmentations"]]
            for a, b in zip(mine["segmentations"], entry["segmentations"]):
                if a is not None:
                    assert mask_iou(decode_mask(a)[None], decode_mask(b)[None]).min() >= MASK_IOU


RULES_OF_2019 = {
    "num_frames_retain": 0,
    "memory_label": "first",
    "repeated_ids": "last",
    "min_match_score": -100.0,
    "softmax_underflow": False,
}


@pytest.mark.parametrize(("prefix", "rules"), [("", {}), ("orig_", RULES_OF_2019)], ids=["released", "2019"])
def test_tracker_sequences(fixtures, prefix, rules):
    z = np.load(fixtures / "tracker_sequences.npz")
    # Boxes of 2019 end at their last pixel: in continuous coordinates they reach one further.
    extent = torch.tensor([0.0, 0.0, 1.0, 1.0]) if prefix else torch.zeros(4)
    for name in sorted({key.split("/")[0] for key in z.files}):
        tracker = ExemplarTracker(**rules)
        counts = z[f"{name}/n"].tolist()
        inputs = [torch.from_numpy(z[f"{name}/{key}"]) for key in ("boxes", "scores", "labels", "emb")]
        inputs[0] = inputs[0] + extent
        shapes = z[f"{name}/{prefix}match_shape"]
        tables = np.split(z[f"{name}/{prefix}match"], shapes.prod(axis=1).cumsum()[:-1])
        memories = np.split(z[f"{name}/mem"], z[f"{name}/mem_n"].cumsum()[:-1])
        ids = []
        for t, frame in enumerate(zip(*(x.split(counts) for x in inputs))):
            if tables[t].size:
                close(tracker.match(*frame), tables[t].reshape(shapes[t]), LOGITS)
            ids += tracker.step(*frame).tolist()
            if not prefix:
                assert tracker.memory.ids == memories[t].tolist()
        theirs = z[f"{name}/{prefix}ids"]
        if prefix:
            theirs = np.where(z[f"{name}/orig_kept"], theirs, -1)
        assert ids == theirs.tolist(), name
