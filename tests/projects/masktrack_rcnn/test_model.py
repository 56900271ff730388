import itertools

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from projects.masktrack_rcnn.tracker import ExemplarTracker
from vis_core.tube import decode_mask

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask", "loss_match"}


def train_step(model, clips):
    torch.manual_seed(0)
    model.train().zero_grad()
    with EventStorage() as storage:
        losses = model(clips)
    sum(losses.values()).backward()
    return losses, storage.latest()


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    return build_model(tiny_config())


@pytest.fixture(scope="module")
def video():
    generator = torch.Generator().manual_seed(3)
    still = torch.randint(0, 255, (3, 64, 96), generator=generator, dtype=torch.uint8)
    return [still.roll(3 * t, dims=2) for t in range(7)]


@pytest.mark.parametrize("symmetric", ["True", "False"])
@pytest.mark.parametrize(("key", "ref"), [((0, 1, 2), (0, 1, 2)), ((0, 1), ()), ((), (0, 2)), ((), ()), ((0,), (1, 2))])
def test_every_parameter_gets_a_finite_gradient(tiny_config, make_clip, symmetric, key, ref):
    model = build_model(tiny_config("MODEL.MASKTRACK.SYMMETRIC_TRAINING", symmetric))
    losses, latest = train_step(model, [make_clip(0, key, ref), make_clip(1)])
    assert losses.keys() == LOSSES
    assert all(torch.isfinite(loss) for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert 0 <= latest["match_accuracy"][0] <= 100


@pytest.mark.parametrize(("key", "ref"), [((0, 1), ()), ((), (0, 1)), ((), ())])
def test_a_batch_without_pairs_has_no_match_loss(model, make_clip, key, ref):
    losses, _ = train_step(model, [make_clip(0, key, ref)])
    assert losses["loss_match"] == 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_only_the_key_frame_trains_detection_by_default(tiny_config, make_clip):
    """The reference frame's objects have no part in any loss but loss_match."""
    torch.manual_seed(0)
    model = build_model(tiny_config("MODEL.MASKTRACK.SYMMETRIC_TRAINING", "False"))
    both, _ = train_step(model, [make_clip(0, ref=(0, 1, 2))])
    clip = make_clip(0, ref=(0, 1, 2))
    clip["instances"][1].gt_ids[:] = -1
    none, _ = train_step(model, [clip])
    for name in LOSSES - {"loss_match"}:
        assert both[name] == none[name]
    assert both["loss_match"] > 0 == none["loss_match"]


def test_training_learns_a_clip(tiny_config, make_clip):
    torch.manual_seed(0)
    model = build_model(tiny_config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    clips = [make_clip(0), make_clip(1)]
    totals = []
    for _ in range(25):
        optimizer.zero_grad()
        with EventStorage():
            total = sum(model(clips).values())
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert min(totals[-5:]) < 0.6 * totals[0]


def test_stream_yields_one_result_a_frame(model, video):
    model.eval()
    results = list(model.stream(video, 120, 200))
    assert len(results) == len(video)
    for found in results:
        n = len(found)
        assert found.image_size == (120, 200)
        assert found.pred_masks.shape == (n, 120, 200) and found.pred_masks.dtype == torch.bool
        assert found.pred_boxes.tensor.shape == (n, 4) and found.pred_ids.dtype == torch.int64
        assert all(0 <= x0 < x1 <= 200 and 0 <= y0 < y1 <= 120 for x0, y0, x1, y1 in found.pred_boxes.tensor.tolist())
        assert (found.scores >= 0).all() and (found.pred_ids >= 0).all()
    assert sum(len(found) for found in results) > 0


def test_stream_takes_any_iterable_and_reads_only_what_it_needs(model, video):
    model.eval()
    read = []

    def endless():
        for t in itertools.count():
            read.append(t)
            yield video[t % len(video)]

    assert len(list(itertools.islice(model.stream(endless(), 64, 96), 3))) == 3
    assert read == [0, 1, 2]


def test_two_streams_do_not_disturb_each_other(model, video):
    model.eval()
    alone = [found.pred_ids.tolist() for found in model.stream(video, 64, 96)]
    streams = model.stream(video, 64, 96), model.stream(video[::-1], 64, 96)
    together = [first.pred_ids.tolist() for first, _ in zip(*streams)]
    assert together == alone


@pytest.mark.parametrize("frames_per_batch", [2, 3, 10])
def test_frames_per_batch_changes_no_result(model, video, frames_per_batch, monkeypatch):
    model.eval()
    single = list(model.stream(video, 64, 96))
    monkeypatch.setattr(model, "frames_per_batch", frames_per_batch)
    batched = list(model.stream(video, 64, 96))
    assert len(batched) == len(single)
    for a, b in zip(single, batched):
        assert a.pred_ids.tolist() == b.pred_ids.tolist()
        assert a.pred_classes.tolist() == b.pred_classes.tolist()
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=1e-3)
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)


def test_tubes_are_what_the_stream_saw(model, video):
    model.eval()
    (output,) = model([{"image": video, "height": 64, "width": 96}])
    frames = list(model.stream(video, 64, 96))
    assert [tube.track_id for tube in output["tubes"]] == sorted({i for f in frames for i in f.pred_ids.tolist()})
    for tube in output["tubes"]:
        rows = [(f.pred_ids == tube.track_id).nonzero().flatten().tolist() for f in frames]
        scores = [f.scores[i].item() for f, r in zip(frames, rows) for i in r]
        labels = [f.pred_classes[i].item() for f, r in zip(frames, rows) for i in r]
        assert tube.score == pytest.approx(sum(scores) / len(scores), rel=1e-6)
        assert labels.count(tube.category) == max(labels.count(x) for x in labels)
        assert len(tube) == len(video)
        for rle, found, r in zip(tube.segmentations, frames, rows):
            assert (rle is None) == (not r)
            if r:
                assert (decode_mask(rle) == found.pred_masks[r[-1]].numpy()).all()


def test_masks_are_made_for_tracked_detections_only(model, video, monkeypatch):
    model.eval()
    seen = []
    original = model.roi_heads.forward_with_given_boxes

    def counting(features, instances):
        seen.append(len(instances[0]))
        return original(features, instances)

    monkeypatch.setattr(model.roi_heads, "forward_with_given_boxes", counting)
    monkeypatch.setattr(model, "tracker", ExemplarTracker(repeated_ids="unique"))
    detected = []
    detect = model.detect
    monkeypatch.setattr(model, "detect", lambda *args: [detected.append(len(x)) or x for x in detect(*args)])
    assert [len(found) for found in model.stream(video, 64, 96)] == seen
    assert sum(seen) < sum(detected)


def test_a_video_without_detections(tiny_config, video):
    model = build_model(tiny_config("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0")).eval()
    (output,) = model([{"image": video, "height": 64, "width": 96}])
    assert output == {"tubes": []}
    found = next(iter(model.stream(video, 30, 40)))
    assert len(found) == 0 and found.pred_masks.shape == (0, 30, 40) and found.pred_masks.dtype == torch.bool


def test_frozen_statistics_leave_the_affine_parameters_trainable(tiny_config):
    model = build_model(tiny_config("MODEL.BACKBONE.FREEZE_BN_STATISTICS", "True", "MODEL.BACKBONE.FREEZE_AT", "2"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "backbone.bottom_up.res3.0.conv1.norm.weight" in trained
    assert not any("stem" in name or "res2" in name for name in trained)


def test_detectron2s_own_heads_fit_too(tiny_config, make_clip, video):
    model = build_model(tiny_config("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"))
    losses, _ = train_step(model, [make_clip(0)])
    assert losses.keys() == LOSSES
    assert len(list(model.eval().stream(video, 64, 96))) == len(video)


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_norms_of_the_pyramid(tiny_config, make_clip, norm):
    cfg = tiny_config("MODEL.FPN.NORM", norm, "MODEL.FPN.OUT_CHANNELS", "32")
    losses, _ = train_step(build_model(cfg), [make_clip(0)])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_draws_follow_the_clips_seed_and_the_batch_is_the_mean_of_its_clips(tiny_config, make_clip):
    torch.manual_seed(0)
    model = build_model(tiny_config("MODEL.BACKBONE.FREEZE_BN_STATISTICS", "True", "MODEL.FPN.NORM", ""))
    clips = [{**make_clip(k, (0, 1), (1, 2)), "seed": 40 + k} for k in range(2)]
    together, _ = train_step(model, clips)
    alone = [train_step(model, [clip])[0] for clip in reversed(clips)]
    for name in LOSSES:
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(together[name], mean, rtol=1e-5, atol=1e-6)
