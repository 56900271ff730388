import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from projects.seq_mask_rcnn.inference import Proposer
from projects.seq_mask_rcnn.model import resize_mask
from projects.seq_mask_rcnn.score import SequenceScores, mask_boxes
from vis_core.errors import ConfigError
from vis_core.ops import winograd
from vis_core.tube import decode_mask, encode_masks

NODE = "MODEL.SEQ_MASK_RCNN"


def settings(**values) -> list[str]:
    return [str(item) for key, value in values.items() for item in (f"{NODE}.{key}", value)]


@torch.no_grad()
def propose(model, frames):
    return Proposer(model, frames).run()


def dense(proposals) -> np.ndarray:
    height, width = (-(-side // 32) * 32 for side in proposals.image_size)
    empty = np.zeros((height, width), bool)
    return np.array([[empty if rle is None else decode_mask(rle) for rle in tube] for tube in proposals.masks])


def same(a, b, differing: float = 0.0) -> None:
    """Equal sequences up to a share of pixels."""
    assert a.key_frames == b.key_frames and a.image_size == b.image_size
    assert (dense(a) != dense(b)).mean() <= differing
    torch.testing.assert_close(a.scores, b.scores, atol=5e-3 if differing else 1e-6, rtol=0)


@pytest.fixture(scope="module")
def released(small_model, video):
    proposals = propose(small_model(), video(5))
    inside = dense(proposals).mean()
    assert len(proposals.masks) >= 4 and 0.01 < inside < 0.9  # else the comparisons below say little
    assert set(proposals.key_frames) == {0, 2, 4}
    return proposals


@pytest.mark.parametrize(
    "other",
    [
        settings(FEATURE_BUDGET=0),  # every feature twice
        settings(MEM_CAP=5),  # more than there will be
        settings(SEARCH_MARGIN=1000),  # everywhere
        settings(KEY_FRAMES="even"),
    ],
    ids=["no budget", "wide cap", "wide margin", "even"],
)
def test_what_changes_no_number(small_model, video, released, other):
    same(propose(small_model(*other), video(5)), released, differing=1e-5)


def test_winograd_only_rounds_differently(small_model, video, released, monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr(winograd, "MIN_TILES", 1)
    calls, convolve = [], winograd.conv3x3
    monkeypatch.setattr(winograd, "conv3x3", lambda *args: calls.append(args) or convolve(*args))
    same(propose(small_model(*settings(WINOGRAD=False)), video(5)), released, differing=0)
    assert not calls
    same(propose(small_model(), video(5)), released, differing=1e-3)
    assert calls


@pytest.mark.parametrize(
    "other",
    [
        settings(MEM_STEP=2),
        settings(MEM_STEP=0, MEM_NUM=2),
        settings(MEM_CAP=2),
        settings(MEM_CAP=2, MEM_CAP_RULE="even"),
        settings(SEARCH_MARGIN=16),
        settings(PRECISION="bfloat16"),
        settings(SCORE_FRAMES="all"),
        settings(SCORE_AREA="image"),
        settings(KEEP_EMPTY_MASKS=False),
    ],
    ids=str,
)
def test_options_run(small_model, video, other):
    proposals = propose(small_model(*other), video(4))
    assert len(proposals.masks) == len(proposals.scores) and torch.isfinite(proposals.scores).all()
    assert all(len(tube) == 4 for tube in proposals.masks)


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("key_num", [1, 5])
def test_short_videos(small_model, video, num_frames, key_num):
    """A frame that is a key frame several times gives copies, or one sequence."""
    frames = video(num_frames)
    twice = propose(small_model(*settings(KEY_NUM=key_num)), frames)
    once = propose(small_model(*settings(KEY_NUM=key_num, REPEAT_KEY_FRAMES=False)), frames)
    assert sorted(set(twice.key_frames)) == sorted(set(once.key_frames))
    rows = [once.key_frames.index(key) for key in dict.fromkeys(once.key_frames)]
    for row in rows:
        copies = [i for i, key in enumerate(twice.key_frames) if key == once.key_frames[row]]
        assert any(twice.masks[i] == once.masks[row] for i in copies)
    model = small_model(*settings(KEY_NUM=key_num))
    (output,) = model([{"image": frames, "height": 120, "width": 180}])
    assert all(len(tube) == num_frames for tube in output["tubes"])


@pytest.mark.parametrize("rule", ["seq_nms", "seq_soft_nms"])
def test_nothing_detected(small_model, video, rule):
    model = small_model("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0", *settings(**{"REDUCE.TYPE": rule}))
    (output,) = model([{"image": video(4), "height": 60, "width": 90}])
    assert output == {"tubes": []}


def test_tubes_have_the_videos_size_and_come_best_first(small_model, video):
    model = small_model(*settings(OUTPUT_SCORE_THRESH=0.0))
    (output,) = model([{"image": video(5), "height": 90, "width": 135}])
    tubes = output["tubes"]
    assert {tube.category for tube in tubes} == {0, 1, 2}
    assert all(rle is None or rle["size"] == [90, 135] for tube in tubes for rle in tube.segmentations)
    best = {}
    for tube in tubes:
        best[tube.track_id] = max(best.get(tube.track_id, 0), tube.score)
        assert tube.segmentations is next(t for t in tubes if t.track_id == tube.track_id).segmentations
    assert list(best.values()) == sorted(best.values(), reverse=True)
    assert not any(rle is not None and not decode_mask(rle).any() for rle in tubes[0].segmentations)


def test_a_frame_is_read_twice_at_most(small_model, video):
    frames = video(6)
    reads = []

    class Lazy:
        def __len__(self):
            return len(frames)

        def __getitem__(self, t):
            reads.append(t)
            return frames[t]

        def __iter__(self):
            reads.extend(range(len(frames)))
            return iter(frames)

    propose(small_model(*settings(FEATURE_BUDGET=0)), Lazy())
    assert max(reads.count(t) for t in range(6)) == 2
    reads.clear()
    propose(small_model(), Lazy())
    assert reads == list(range(6))


def test_padding_is_cut_off_before_resizing():
    mask = torch.zeros(1, 64, 96, dtype=torch.bool)
    mask[0, 60:] = True
    (rle,) = encode_masks(mask)
    assert resize_mask(rle, (60, 90), (60, 90), torch.device("cpu")) is None
    mask[0, 10:20, 30:40] = True
    small = resize_mask(encode_masks(mask)[0], (60, 90), (60, 90), torch.device("cpu"))
    assert decode_mask(small).sum() == 100
    large = resize_mask(encode_masks(mask)[0], (60, 90), (120, 180), torch.device("cpu"))
    assert decode_mask(large)[20:40, 60:80].sum() == pytest.approx(400, abs=8)


def test_boxes_of_masks():
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[0, 5:9, 7:12] = True
    masks[1, 0, 29] = True
    boxes, present = mask_boxes(masks)
    assert boxes.tolist() == [[6, 4, 13, 10], [28, 0, 30, 2], [0, 0, 30, 20]]
    assert present.tolist() == [True, True, False]


def test_mean_scores():
    scores = SequenceScores(2, 2, torch.device("cpu"))
    scores.add(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]), torch.tensor([True, False]))
    scores.add(torch.tensor([[0.25, 0.75, 0.0], [0.1, 0.1, 0.8]]), torch.tensor([True, False]))
    scores.add(torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.1, 0.8]]), torch.tensor([False, False]))
    assert scores.mean().tolist() == [[0.375, 0.5], [0, 0]]
    assert scores.mean(4).tolist() == [[0.1875, 0.25], [0, 0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MEM_NUM": 10}, "exactly one of MEM_STEP"),
        ({"MEM_STEP": 0}, "exactly one of MEM_STEP"),
        ({"KEY_NUM": 0}, "KEY_NUM"),
        ({"KEY_FRAMES": "first"}, "KEY_FRAMES.*released, even, paper"),
        ({"REDUCE.TYPE": "nms"}, "REDUCE.TYPE"),
        ({"PRECISION": "half"}, "PRECISION"),
        ({"REDUCE.TYPE": "seq_soft_nms", "CATE_REDUCE.ENABLED": True}, "CATE_REDUCE"),
    ],
)
def test_contradicting_settings(small_config, values, message):
    with pytest.raises(ConfigError, match=message):
        build_model(small_config(*settings(**values)))
