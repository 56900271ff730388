import numpy as np
import pytest
import torch

from projects.ctvis.tracks import MAX_PENDING, VideoTracks
from vis_core.errors import ConfigError
from vis_core.tube import TubeBuilder, decode_mask

SIZE = (6, 8)


def add(tracks, frame, ids, logits=None, confidence=0.5):
    """Give each object the mask of ``id + 1`` pixels of row ``frame % 6``, all with the same foreground probability."""
    logits = np.zeros((len(ids), 3), dtype=np.float32) if logits is None else np.array(logits, dtype=np.float32)
    removed = tracks.add_frame(frame, ids, logits)
    masks = torch.zeros(len(ids), *SIZE, dtype=torch.bool)
    for mask, id_ in zip(masks, ids):
        mask[frame % 6, : id_ + 1] = True
    num_pixels = masks.sum(dim=(1, 2))
    tracks.add_masks(frame, ids, masks, confidence * num_pixels, num_pixels)
    return removed


def test_best_pairs_of_track_and_class_share_masks():
    tracks = VideoTracks()
    add(tracks, 0, [0, 1], [[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    add(tracks, 2, [1], [[0.0, 1.0, 0.0]])
    tubes = tracks.tubes(num_frames=3, num_outputs=3)
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [(t.track_id, t.category) for t in tubes] == [(1, 1), (0, 0), (0, 1)]
    expected = [probabilities[1, 1], probabilities[0, 0], probabilities[0, 1]]
    np.testing.assert_allclose([t.score for t in tubes], 0.5 * np.array(expected), rtol=1e-5)
    assert tubes[1].segmentations is tubes[2].segmentations
    assert [m is not None for m in tubes[0].segmentations] == [True, False, True]
    assert decode_mask(tubes[0].segmentations[2]).sum() == 2


def test_max_takes_the_best_of_every_class():
    tracks = VideoTracks(score_type="max")
    add(tracks, 0, [0], [[2.0, 1.0, 0.0]])
    add(tracks, 1, [0], [[1.0, 3.0, -1.0]])
    assert tracks.logits().tolist() == [[2.0, 3.0, 0.0]]


def test_quality_is_over_all_pixels_of_all_frames():
    tracks = VideoTracks()
    tracks.add_frame(0, [0], np.array([[9.0, 0.0, 0.0]]))
    tracks.add_masks(0, [0], torch.ones(1, *SIZE, dtype=torch.bool), torch.tensor([48.0]), torch.tensor([48]))
    tracks.add_frame(1, [0], np.array([[9.0, 0.0, 0.0]]))
    few = torch.zeros(1, *SIZE, dtype=torch.bool)
    few[0, 0, :2] = True
    tracks.add_masks(1, [0], few, torch.tensor([1.0]), torch.tensor([2]))
    probability = np.exp(9) / (np.exp(9) + 2)
    assert tracks.tubes(2, 1)[0].score == pytest.approx(probability * 49 / 50, rel=1e-6)


def test_a_track_without_a_pixel_scores_nothing():
    tracks = VideoTracks()
    tracks.add_frame(0, [0], np.array([[9.0, 0.0, 0.0]]))
    tracks.add_masks(0, [0], torch.zeros(1, *SIZE, dtype=torch.bool), torch.zeros(1), torch.zeros(1))
    assert [t.score for t in tracks.tubes(1, 5)] == [0.0, 0.0]


def test_short_lived_tracks_go():
    tracks = VideoTracks(noise_start=3, noise_seen=2, noise_absent=2)
    assert add(tracks, 0, [0, 1]) == []
    for frame in (1, 2, 3):
        assert add(tracks, frame, [0]) == []
    assert add(tracks, 4, [0]) == [1]
    assert tracks.ids == [0]


def test_tracks_that_were_seen_often_or_lately_stay():
    tracks = VideoTracks(noise_start=0, noise_seen=2, noise_absent=2)
    add(tracks, 0, [0, 1])
    add(tracks, 1, [0])
    assert add(tracks, 2, [2]) == [1]
    assert add(tracks, 3, []) == [] and tracks.ids == [0, 2]
    assert add(tracks, 9, []) == [2] and tracks.ids == [0]


def test_a_removed_track_starts_anew():
    tracks = VideoTracks(noise_start=0, noise_seen=2, noise_absent=1)
    add(tracks, 0, [0, 1], [[8.0, 0.0, 0.0]] * 2, confidence=0.1)
    add(tracks, 1, [0])
    add(tracks, 2, [0, 1], [[0.0, 8.0, 0.0]] * 2, confidence=0.9)
    assert tracks.ids == [0, 1]
    tube = next(t for t in tracks.tubes(3, 2) if t.track_id == 1)
    assert tube.category == 1
    assert [m is not None for m in tube.segmentations] == [False, False, True]
    assert tube.score == pytest.approx(0.9, abs=1e-2)


def test_masks_that_are_still_being_encoded_when_their_track_goes():
    builder = TubeBuilder()
    builder._encode_later(0, [1, 2], torch.ones(2, *SIZE, dtype=torch.bool))  # as on an accelerator
    builder.discard(1)
    assert decode_mask(builder.segmentations(2, 1)[0]).all()
    assert len(builder) == 1


def test_sums_do_not_pile_up():
    tracks = VideoTracks(noise_start=10_000)
    for frame in range(5 * MAX_PENDING):
        add(tracks, frame, [0, 1], confidence=0.25)
        assert len(tracks._pending) <= MAX_PENDING
    assert [t.score for t in tracks.tubes(5 * MAX_PENDING, 4)] == pytest.approx([0.25 / 3] * 4)


def test_nothing_seen():
    tracks = VideoTracks()
    add(tracks, 0, [])
    assert tracks.tubes(1, 40) == []


def test_reset_forgets():
    tracks = VideoTracks()
    add(tracks, 0, [0])
    tracks.reset()
    assert len(tracks) == 0 and tracks.tubes(1, 4) == []


def test_unknown_score_type():
    with pytest.raises(ConfigError, match="hybrid"):
        VideoTracks(score_type="hybrid")
