"""CTVIS without its network against the original (fixtures/ctvis): tracker, contrastive items, data.

Identities and counts are exact, floats to 1e-5 (recorded with 5 or 6 decimals).
"""

import itertools
import json
import random

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from conftest import root
from ctvis_model import config, drawn_clip, track_masks
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from projects.ctvis import contrastive
from projects.ctvis.tracker import CTVISTracker
from projects.ctvis.tracks import VideoTracks
from vis_core.data import PseudoClipMapper, TestMapper, VideoClipMapper, categories
from vis_core.data.builtin import BUILTIN_SPLITS
from vis_core.tracking import EmbeddingBank
from vis_core.tube import decode_mask

FOLDER = root() / "ctvis"
CLOSE = 1e-5


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


# ------------------------------------------------------------------------------------------------ tracker

TRACKER = read("tracker_expected.json")
MEMORIES = {"temporally_weighted_softmax": "time_weighted"}


def tracker_and_tracks(settings: dict) -> tuple[CTVISTracker, VideoTracks]:
    tracker = CTVISTracker(
        select_threshold=settings["inference_select_thr"],
        init_threshold=settings["init_score_thr"],
        mask_nms_threshold=settings["mask_nms_thr"],
        match_threshold=settings["match_score_thr"],
        metric=settings["match_metric"],
        assignment=settings["match_type"],
        frame_weight=settings["frame_weight"],
        memory=MEMORIES.get(settings["embed_type"], settings["embed_type"]),
        cache=settings["maximum_cache"],
        num_dead_frames=settings["num_dead_frames"],
    )
    tracks = VideoTracks(
        score_type=settings["temporal_score_type"],
        noise_start=settings["noise_frame_num"],
        noise_seen=settings["suppress_frame_num"],
        noise_absent=settings["none_frame_num"],
    )
    return tracker, tracks


@pytest.mark.parametrize(
    ("setting", "sequence"), [(name, seq) for name, case in TRACKER.items() for seq in case["sequences"]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tracker(setting, sequence, dtype):
    inputs = np.load(FOLDER / "tracker_inputs.npz")
    logits, masks, embeds = (
        torch.from_numpy(inputs[f"{sequence}_{name}"]).to(dtype) for name in ("logits", "masks", "embeds")
    )
    settings, expected = TRACKER[setting]["settings"], TRACKER[setting]["sequences"][sequence]
    tracker, tracks = tracker_and_tracks(settings)
    pairs, query_of, removed = [], {}, set()
    for t in range(len(logits)):
        tracked = tracker.step(logits[t], masks[t], embeds[t])
        pairs.append([list(pair) for pair in zip(tracked.queries, tracked.ids)])
        gone = tracks.add_frame(t, tracked.ids, logits[t][tracked.queries].numpy())
        found = masks[t][tracked.queries] > 0
        tracks.add_masks(t, tracked.ids, found, found.sum(dim=(1, 2)), found.sum(dim=(1, 2)))
        for query, id_ in zip(tracked.queries, tracked.ids):
            query_of.setdefault(id_, {})[t] = query
        for id_ in gone:
            del query_of[id_]
            removed.add(id_)

    assert pairs == expected["frame_query_id"]
    for id_, segmentations in zip(tracks.ids, track_masks(tracks, len(logits))):
        for t, rle in enumerate(segmentations):
            query = query_of[id_].get(t)
            assert rle is None if query is None else (decode_mask(rle) == (masks[t, query] > 0).numpy()).all()
    assert [[query_of[i].get(t, -1) for t in range(len(logits))] for i in tracks.ids] == expected["out_mask_query"]
    np.testing.assert_allclose(tracks.logits(), expected["out_logits"], rtol=0, atol=CLOSE)
    assert sorted(removed & set(tracks.ids)) == expected["ids_with_dropped_history"]
    assert sorted(removed - set(tracks.ids)) == expected["ids_dropped_entirely"]
    assert tracker.num_ids == expected["num_tracklets_created"]
    assert tracker.bank.ids == expected["alive_ids_at_end"]
    assert tracker.bank.num_frames == expected["alive_exist_frames"]

    # The recorded norms are those of the similarity-guided memory, whichever one the setting matches with.
    bank = EmbeddingBank("similarity_guided", settings["maximum_cache"])
    for t, frame in enumerate(pairs):
        if frame:
            queries, ids = zip(*frame)
            bank.update(list(ids), t, embeds[t][list(queries)], torch.zeros(len(ids)))
        bank.evict(t, settings["num_dead_frames"])
    np.testing.assert_allclose(bank.fused.norm(dim=1), expected["alive_embed_norm"], rtol=0, atol=CLOSE)
    if settings["embed_type"] == "similarity_guided":
        np.testing.assert_allclose(tracker.bank.fused, bank.fused, rtol=0, atol=CLOSE)


# ------------------------------------------------------------------------------------------------ contrastive items

PLUGIN = read("ct_plugin.json")
PLUGIN_CASES = [name for name, case in PLUGIN.items() if "coin_values_cycled" in case]


def plugin_clips():
    """Per clip: matched query (T, N) and visibility (T, N)."""
    for queries, valid in zip(PLUGIN["matched_query"], PLUGIN["valid"]):
        yield torch.tensor(queries), torch.tensor(valid).bool().T


@pytest.mark.parametrize("name", PLUGIN_CASES)
def test_contrastive_items(name, monkeypatch):
    case, arrays = PLUGIN[name], np.load(FOLDER / "ct_plugin.npz")
    coins, picks = itertools.cycle(case["coin_values_cycled"]), iter(case["noise_picks_in_order"])
    tossed = []
    monkeypatch.setattr(np.random, "rand", lambda: tossed.append(next(coins)) or tossed[-1])
    monkeypatch.setattr(np.random, "randint", lambda n: next(picks))
    embeds = torch.from_numpy(arrays["embeds"]).requires_grad_()
    main, auxiliary, sizes = [], [], []
    for clip, (queries, visible) in zip(embeds, plugin_clips()):
        objects = contrastive.clip_objects(clip, queries, visible, noise=case["noise_embed"])
        items = contrastive.memory_items(clip, objects, momentum=case["momentum_embed"])
        losses = contrastive.contrastive_losses(items)
        main.append(losses[0])
        auxiliary.append(losses[1])
        sizes += (items.positive | items.negative).sum(dim=1).tolist()
    main, auxiliary = torch.cat(main), torch.cat(auxiliary)

    assert len(main) == case["num_items"] and len(tossed) == case["coin_calls"] and next(picks, None) is None
    theirs = np.array(case["per_item_contrast_aux_size"])
    np.testing.assert_allclose(main.detach(), theirs[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(auxiliary.detach(), theirs[:, 1], rtol=0, atol=1e-6)
    assert sizes == theirs[:, 2].tolist()
    assert main.mean().item() == pytest.approx(case["losses_unweighted"]["loss_reid"], abs=1e-6)
    assert auxiliary.mean().item() == pytest.approx(case["losses_unweighted"]["loss_aux_reid"], abs=1e-6)
    weights = PLUGIN["weights"]
    (weights["loss_reid"] * main.mean() + weights["loss_aux_reid"] * auxiliary.mean()).backward()
    np.testing.assert_allclose(embeds.grad, arrays[f"grad_{name}"], rtol=0, atol=1e-6)


def test_fused_embeddings():
    arrays = np.load(FOLDER / "ct_plugin.npz")
    for b, (queries, visible) in enumerate(plugin_clips()):
        objects = contrastive.clip_objects(torch.from_numpy(arrays["embeds"][b]), queries, visible)
        fused = contrastive.fused_embeddings(objects.embeds, objects.observed)
        for i in range(queries.shape[1]):
            theirs = arrays[f"fused_b{b}_i{i}"]
            ours = torch.where(fused[:, i].abs().sum(dim=1, keepdim=True) > 0, fused[:, i], torch.nan)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------ data


MAPPERS = read("mappers.json")
TRACKED_CLIPS = {}  # original config and seed -> what the mapper gave call by call
for key, clip in MAPPERS["ytvis_train"].items():
    TRACKED_CLIPS.setdefault(tuple(key.split("|")[:2]), []).append(clip)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """The fixture's video as a record, its frames written to disk."""
    made, folder = MAPPERS["frames"], tmp_path_factory.mktemp("frames")
    height, width, length = made["H"], made["W"], made["T"]
    names, annotations = [], []
    for t, frame in enumerate(drawn_clip(made["clip_seed"], length, height, width)):
        names.append(str(folder / f"{t:05d}.png"))
        Image.fromarray(frame).save(names[-1])
        objects = []
        for obj in (obj for obj in MAPPERS["instances"] if t in obj["frames"]):
            y, x = max(obj["y"] + t * obj["vy"], 0), max(obj["x"] + t * obj["vx"], 0)
            mask = np.zeros((height, width), dtype=np.uint8, order="F")
            mask[y : y + obj["h"], x : x + obj["w"]] = 1
            rle = coco_mask.encode(mask)
            objects.append(annotation(obj["cat"], coco_mask.toBbox(rle).tolist(), rle, id=obj["id"]))
        annotations.append(objects)
    return {
        "video_id": 1,
        "file_names": names,
        "height": height,
        "width": width,
        "length": length,
        "annotations": annotations,
    }


def annotation(category, box, segmentation, **more) -> dict:
    fields = {"category_id": category, "bbox": box, "segmentation": segmentation}
    return {"iscrowd": 0, "bbox_mode": BoxMode.XYWH_ABS, **fields, **more}


def seed_all(seed: str) -> None:
    np.random.seed(int(seed))
    random.seed(int(seed))


def assert_same_pictures(clip: dict, expected: dict, tolerance: int) -> None:
    assert clip["frame_idx"] == expected["frame_idx"]
    assert [list(image.shape) for image in clip["image"]] == [frame["shape"] for frame in expected["frames"]]
    for image, frame in zip(clip["image"], expected["frames"]):
        np.testing.assert_allclose(image.float().mean(dim=(1, 2)), frame["mean"], rtol=0, atol=1e-3)
        pixels = image[:, 10::97, 10::97].flatten()[: len(frame["px"])].int()
        np.testing.assert_allclose(pixels, frame["px"], rtol=0, atol=tolerance)


def mask_areas(instances) -> list[int]:
    return instances.gt_masks.tensor.flatten(1).sum(dim=1).tolist()


@pytest.mark.parametrize(("original", "seed"), TRACKED_CLIPS)
def test_video_clips(video, original, seed):
    cfg = config(original)
    mapper = VideoClipMapper.from_config(cfg, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    seed_all(seed.removeprefix("seed"))
    for expected in TRACKED_CLIPS[original, seed]:
        clip = mapper(video)
        assert_same_pictures(clip, expected, tolerance=0)
        rows = [
            sorted(zip(f.gt_ids.tolist(), f.gt_classes.tolist(), f.gt_boxes.tensor.tolist(), mask_areas(f)))
            for f in clip["instances"]
        ]
        # The original's rows stand in the order of a Python set, and so in any.
        theirs = [sorted(zip(f["gt_ids"], f["gt_classes"], f["boxes"], f["areas"])) for f in expected["frames"]]
        assert rows == [[tuple(row) for row in frame] for frame in theirs]
        assert {str(f.gt_masks.tensor.dtype) for f in clip["instances"]} == {
            f["mask_dtype"] for f in expected["frames"]
        }


def test_pseudo_clips(video):
    record = {key: video[key] for key in ("height", "width")} | {"file_name": video["file_names"][0], "image_id": 1}
    coco_ids = list(MetadataCatalog.get("coco_2017_train").thing_dataset_id_to_contiguous_id)
    record["annotations"] = [
        annotation(
            categories.COCO_TO_YTVIS_2019[coco_ids[obj["category_id_contiguous"]]] - 1,
            obj["bbox_xywh"],
            obj["polygons"],
            iscrowd=obj["iscrowd"],
        )
        for obj in MAPPERS["coco_record"]
    ]
    for seed, expected in MAPPERS["coco"].items():
        mapper = PseudoClipMapper.from_config(config("ytvis_2019/CTVIS_R50"), 40)
        seed_all(seed.removeprefix("seed"))
        clip = mapper(record)
        assert_same_pictures(clip, expected, tolerance=1)  # rotated by another build of OpenCV
        for instances, frame in zip(clip["instances"], expected["frames"]):
            areas = np.array(frame["areas"])
            assert instances.gt_classes.tolist() == frame["gt_classes"]
            # Theirs also keeps objects whose box is left but no pixel of whose mask is.
            assert instances.gt_ids.tolist() == np.where(areas > 0, frame["gt_ids"], -1).tolist()
            # A tenth of a pixel along the outline: theirs cuts polygons at the crop, ours the drawn masks.
            assert (np.abs(areas - mask_areas(instances)) <= 0.4 * np.sqrt(areas)).all()


def test_test_frames(video):
    out = TestMapper(config("ytvis_2019/CTVIS_R50"))(video)
    expected = MAPPERS["ytvis_test"]
    assert len(out["image"]) == len(expected["frame_idx"])
    first = out["image"][0]
    assert list(first.shape) == expected["shape"] and str(first.dtype) == expected["dtype"]
    assert first[:, 10::97, 10::97].flatten()[: len(expected["px"])].tolist() == expected["px"]


def test_category_tables():
    tables = read("category_tables.json")
    assert tables["ytvis_2022"] == "identical to ytvis_2021"
    for name in ("ytvis_2019", "ytvis_2021", "ovis"):
        table, ours = tables[name], getattr(categories, name.upper())
        assert list(ours.names) == [c["name"] for c in table["categories"]]
        assert list(ours.ids) == [c["id"] for c in table["categories"]]
        assert [list(color) for color in ours.colors] == [c["color"] for c in table["categories"]]
        to_ours = getattr(categories, f"COCO_TO_{name.upper()}")
        assert to_ours == {entry["coco_id"]: entry["dataset_id"] for entry in table["coco_to_dataset"]}
        without = set(ours.ids) - set(to_ours.values())
        assert sorted(ours.names[i - 1] for i in without) == sorted(table["categories_without_coco_source"])


def test_file_layouts():
    for name, (images, annotations) in read("category_tables.json")[
        "dataset_paths_relative_to_DETECTRON2_DATASETS_image_root_then_json"
    ].items():
        if "_sub_" in annotations:  # three videos that the authors tried things with
            continue
        assert images in BUILTIN_SPLITS[name].image_roots, name
        assert annotations in BUILTIN_SPLITS[name].json_files, name
