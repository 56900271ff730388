import itertools

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from projects.ctvis.contrastive import clip_objects, memory_items
from projects.ctvis.learner import ContrastiveLearner
from projects.ctvis.masks import masks_in_chunks
from vis_core.errors import ConfigError
from vis_core.modeling.mask2former import MaskMatcher
from vis_core.modeling.mask_resizing import resize_masks
from vis_core.tube import decode_mask

NAMES = {"loss_ce", "loss_mask", "loss_dice", "loss_reid", "loss_aux_reid"}
CLIPS = {
    "all visible": [(0, 1, 2)] * 3,
    "appearing and vanishing": [(0,), (0, 1), (1, 2), (0,)],
    "never together": [(0,), (1,), (2,)],
    "empty": [(), (), ()],
    "one frame": [(0, 1)],
    "one frame, repeated": [(0, 1)] * 2,
    "all vanish": [(0, 1), (), ()],
}


def build(cfg, seed: int = 0):
    torch.manual_seed(seed)
    return build_model(cfg)


def train_step(model, clips):
    torch.manual_seed(0)
    np.random.seed(0)
    model.train()
    model.zero_grad()
    losses = model(clips)
    sum(losses.values()).backward()
    return losses


@pytest.fixture(scope="module")
def model(tiny_config):
    return build(tiny_config())


@pytest.fixture(scope="module")
def varied(tiny_config):
    """A model in eval mode whose random queries give different masks and classes: there is something to track."""
    built = build(tiny_config("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "5")).eval()
    predictor = built.sem_seg_head.predictor
    with torch.no_grad():
        predictor.class_embed.weight *= 8
        predictor.query_feat.weight *= 8
        for layer in predictor.mask_embed.layers:
            layer.bias.zero_()
    return built


def video(num_frames: int, seed: int = 3, height: int = 45, width: int = 70) -> dict:
    generator = torch.Generator().manual_seed(seed)
    still = torch.randint(0, 255, (3, 60, 90), generator=generator, dtype=torch.uint8)
    return {"image": [still.roll(3 * t, dims=2) for t in range(num_frames)], "height": height, "width": width}


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("matching", ["published", "criterion"])
def test_every_parameter_gets_a_finite_gradient(tiny_config, make_clip, clip, precision, matching):
    model = build(tiny_config("MODEL.CTVIS.CONTRASTIVE.MATCHING", matching))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        losses = train_step(model, [make_clip(CLIPS[clip]), make_clip(CLIPS[clip], seed=1)])
    assert {name.rstrip("_01") for name in losses} == NAMES and len(losses) == 3 * 3 + 2
    for name, loss in losses.items():
        assert torch.isfinite(loss), name
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_clips_of_different_lengths_and_numbers_of_objects(model, make_clip):
    losses = train_step(model, [make_clip([(0, 1)] * 3), make_clip([()], num_objects=0), make_clip([(0,)] * 2, 1)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_reid"] > 0


@pytest.mark.parametrize("clip", ["never together", "empty", "one frame", "all vanish"])
def test_nothing_to_compare_costs_nothing(model, make_clip, clip):
    losses = train_step(model, [make_clip(CLIPS[clip])])
    assert losses["loss_reid"] == losses["loss_aux_reid"] == 0


def test_more_objects_than_queries(tiny_config, make_clip):
    model = build(tiny_config("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "2"))
    for matching in ("published", "criterion"):
        model.learner.matching = matching
        losses = train_step(model, [make_clip([(0, 1, 2)] * 3)])
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_without_contrastive_weights_embeddings_are_not_trained(tiny_config, make_clip):
    node = "MODEL.CTVIS.CONTRASTIVE."
    model = build(tiny_config(node + "REID_WEIGHT", "0.0", node + "AUX_REID_WEIGHT", "0.0"))
    train_step(model, [make_clip([(0, 1, 2)] * 3)])
    assert all(p.grad.eq(0).all() for p in model.sem_seg_head.predictor.reid_embed.parameters())
    assert model.sem_seg_head.predictor.query_feat.weight.grad.abs().sum() > 0


def test_contrastive_losses_train_the_whole_network(model, make_clip):
    torch.manual_seed(0)
    model.train()
    model.zero_grad()
    losses = model([make_clip([(0, 1, 2)] * 3)])
    (losses["loss_reid"] + losses["loss_aux_reid"]).backward()
    assert model.backbone.stem.conv1.weight.grad.abs().sum() > 0
    assert model.sem_seg_head.predictor.class_embed.weight.grad is None


def test_a_few_steps_lower_the_losses(tiny_config, make_clip):
    model = build(tiny_config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    clips, totals = [make_clip([(0, 1, 2)] * 3)], []
    for _ in range(12):
        losses = train_step(model, clips)
        optimizer.step()
        totals.append((losses["loss_mask"] + losses["loss_dice"]).item())
    assert totals[-1] < 0.9 * totals[0]


def matched(learner, clip, matches=()):
    """What the learner takes for the objects' queries: (T, N) queries and visibility."""
    seen = []

    def clip_items(embeds, *found):
        seen.extend(x.tolist() for x in found)
        return memory_items(embeds, clip_objects(embeds, *found))

    learner._clip_items = clip_items
    learner(outputs_for(clip), [clip["instances"]], matches, MaskMatcher(num_points=512))
    return seen


def outputs_for(clip):
    """Of 6 queries number 5 - k is sure of object k, wherever it is visible; the others of nothing."""
    num_frames = len(clip["image"])
    outputs = {
        "pred_logits": torch.zeros(num_frames, 6, 4),
        "pred_masks": torch.full((num_frames, 6, 16, 24), -8.0),
        "pred_embeds": torch.randn(num_frames, 6, 4),
    }
    outputs["pred_logits"][:, :, 3] = 4
    for t, instances in enumerate(clip["instances"]):
        for k in (instances.gt_ids >= 0).nonzero().flatten().tolist():
            outputs["pred_logits"][t, 5 - k, 3], outputs["pred_logits"][t, 5 - k, k % 3] = 0, 4
            padded = F.pad(instances.gt_masks.tensor[k].float(), (0, 6, 0, 4))  # 60 x 90 to 64 x 96
            outputs["pred_masks"][t, 5 - k] = 16 * F.avg_pool2d(padded[None], 4)[0] - 8
    return outputs


def test_both_matchings_find_the_objects(make_clip):
    clip = make_clip(CLIPS["appearing and vanishing"])
    visible = torch.stack([x.gt_ids >= 0 for x in clip["instances"]])
    expected = [torch.where(visible, torch.tensor([5, 4, 3]), 0).tolist(), visible.tolist()]
    # The criterion numbers visible objects only, and its pairs come by ascending query.
    pairs = [(5 - rows.flip(0), torch.arange(len(rows)).flip(0)) for rows in map(torch.argwhere, visible)]
    pairs = [(queries.flatten(), objects) for queries, objects in pairs]
    assert matched(ContrastiveLearner(matching="criterion"), clip, pairs) == expected
    queries, seen = matched(ContrastiveLearner(matching="published"), clip)
    assert seen == expected[1]
    assert torch.tensor(queries)[visible].tolist() == torch.tensor(expected[0])[visible].tolist()


@pytest.mark.parametrize(("key", "value"), [("ITEMS", "pairs"), ("MATCHING", "boxes")])
def test_unknown_choices(tiny_config, key, value):
    with pytest.raises(ConfigError, match=rf"CONTRASTIVE.{key}.*'{value}'"):
        build(tiny_config(f"MODEL.CTVIS.CONTRASTIVE.{key}", value))


# ------------------------------------------------------------------------------------------------ inference


def summary(tubes):
    return [(t.track_id, t.category, t.segmentations) for t in tubes]


def test_windows_do_not_matter(varied):
    inputs = video(13)
    results = []
    for window in (1, 5, 100):
        varied.window = window
        results.append(varied([inputs])[0]["tubes"])
    assert len({t.track_id for t in results[0]}) > 1
    assert results[1] == results[0] and results[2] == results[0]


def test_batches_do_not_matter(varied, monkeypatch):
    """As on a GPU, where a window is a batch: the same up to rounding."""
    inputs = video(13)
    alone = varied([inputs])[0]["tubes"]
    sizes, preprocess = [], varied.preprocess_images
    monkeypatch.setattr(varied, "preprocess_images", lambda x: sizes.append(len(x)) or preprocess(x))
    monkeypatch.setattr(varied, "test_batch_size", lambda: 5)
    together = varied([inputs])[0]["tubes"]
    assert sizes == [5, 5, 3]
    assert summary(together) == summary(alone)
    np.testing.assert_allclose([t.score for t in together], [t.score for t in alone], rtol=1e-4)


def test_frames_are_read_once_in_order_and_not_kept(varied):
    class Frames:
        def __init__(self, frames):
            self.frames, self.asked = frames, []

        def __iter__(self):
            for t, frame in enumerate(self.frames):
                self.asked.append(t)
                yield frame

    varied.window = 4
    frames = Frames(video(10)["image"])
    tubes = varied([{"image": frames, "height": 45, "width": 70}])[0]["tubes"]
    assert frames.asked == list(range(10))
    assert {len(t) for t in tubes} == {10}


def test_videos_do_not_know_of_each_other(varied):
    varied.window = 5
    first, second = video(6), video(4, seed=9, height=60, width=90)
    together = varied([first, second])
    assert summary(together[0]["tubes"]) == summary(varied([first])[0]["tubes"])
    assert summary(together[1]["tubes"]) == summary(varied([second])[0]["tubes"])
    assert decode_mask(together[1]["tubes"][0].segmentations[0]).shape == (60, 90)


def test_an_object_under_several_classes_has_one_list_of_masks(varied):
    tubes = varied([video(6)])[0]["tubes"]
    by_track = {}
    for tube in tubes:
        by_track.setdefault(tube.track_id, []).append(tube)
    assert max(len(same) for same in by_track.values()) > 1
    for same in by_track.values():
        assert len({id(tube.segmentations) for tube in same}) == 1
        assert len({tube.category for tube in same}) == len(same)


def test_as_many_tubes_as_classes_by_default(tiny_config):
    cfg = tiny_config("MODEL.CTVIS.TEST.NUM_OUTPUTS", "0")
    assert len(build(cfg).eval()([video(3)])[0]["tubes"]) == 3


@pytest.mark.parametrize("num_frames", [0, 1])
def test_short_videos(varied, num_frames):
    tubes = varied([video(num_frames)])[0]["tubes"]
    assert bool(tubes) == (num_frames > 0) and all(len(t) == num_frames for t in tubes)


def test_nothing_found(varied, monkeypatch):
    monkeypatch.setattr(varied.tracker, "init_threshold", 1.0)
    assert varied([video(3)]) == [{"tubes": []}]


# ------------------------------------------------------------------------------------------------ streaming


@pytest.mark.parametrize("batch", [1, 4])
def test_the_stream_has_the_ids_and_masks_of_the_tubes(varied, monkeypatch, batch):
    """Those of all tubes, before any is taken back or left out."""
    monkeypatch.setattr(varied.tracks, "noise_start", 10**6)
    monkeypatch.setattr(varied, "num_outputs", 10**6)
    monkeypatch.setattr(varied, "test_batch_size", lambda: batch)
    inputs = video(13)
    tubes = {tube.track_id: tube for tube in varied([inputs])[0]["tubes"]}
    frames = list(varied.stream(iter(inputs["image"]), 45, 70))
    assert len(tubes) > 3 and len(frames) == 13
    assert {i for found in frames for i in found.pred_ids.tolist()} == set(tubes)
    for t, found in enumerate(frames):
        assert found.image_size == (45, 70) and found.pred_masks.dtype == torch.bool
        assert found.pred_boxes.tensor.shape == (len(found), 4) and (found.scores <= 1).all()
        seen = {id_: tube.segmentations[t] for id_, tube in tubes.items() if tube.segmentations[t]}
        assert sorted(seen) == sorted(found.pred_ids.tolist())
        for id_, mask, box in zip(found.pred_ids.tolist(), found.pred_masks, found.pred_boxes.tensor):
            np.testing.assert_array_equal(decode_mask(seen[id_]), mask.numpy())
            rows, columns = mask.nonzero().T if mask.any() else (None, None)
            if rows is not None:
                assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_stream_reads_only_what_it_needs(varied, monkeypatch, batch):
    monkeypatch.setattr(varied, "test_batch_size", lambda: batch)  # on a GPU a whole video goes in windows
    read = []

    def endless():
        for t in itertools.count():
            read.append(t)
            yield video(1, seed=t)["image"][0]

    assert len(list(itertools.islice(varied.stream(endless(), 45, 70), 3))) == 3
    assert read == [0, 1, 2]


def test_a_frame_without_objects_in_a_stream(varied, monkeypatch):
    monkeypatch.setattr(varied.tracker, "init_threshold", 1.0)
    (found,) = varied.stream(video(1)["image"], 45, 70)
    assert len(found) == 0 and found.pred_masks.shape == (0, 45, 70) and found.pred_boxes.tensor.shape == (0, 4)


# ------------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("size", [(50, 75), (31, 40), (96, 128)])
def test_chunks_of_masks(size, monkeypatch):
    logits = torch.randn(7, 16, 24, generator=torch.Generator().manual_seed(0))
    original = logits.clone()
    whole = resize_masks(logits[None], (64, 96), (50, 75), size)[0]
    for pixels in (1, 3 * size[0] * size[1], 2**30):
        monkeypatch.setattr("vis_core.modeling.mask_resizing.CHUNK_PIXELS", pixels)
        parts, masks, confidence, num_pixels = zip(*masks_in_chunks(logits, (64, 96), (50, 75), size))
        assert list(itertools.chain(*(range(7)[part] for part in parts))) == list(range(7))
        assert torch.cat(masks).equal(whole > 0)
        assert torch.cat(num_pixels).tolist() == (whole > 0).sum(dim=(1, 2)).tolist()
        torch.testing.assert_close(torch.cat(confidence), (whole.sigmoid() * (whole > 0)).sum(dim=(1, 2)))
    assert logits.equal(original)


def test_no_masks():
    assert list(masks_in_chunks(torch.zeros(0, 16, 24), (64, 96), (50, 75), (50, 75))) == []
