import json

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vis_core import tube as tube_module
from vis_core.errors import DataError
from vis_core.tube import Tube, TubeBuilder, decode_mask, encode_masks


def coco_counts(masks: np.ndarray) -> list[str]:
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
    return [rle["counts"].decode() for rle in coco_mask.encode(columns)]


def squares(*corners: tuple[int, int]) -> torch.Tensor:
    masks = torch.zeros(len(corners), 12, 17, dtype=torch.bool)
    for mask, (row, column) in zip(masks, corners):
        mask[row : row + 3, column : column + 4] = True
    return masks


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 19))))
def test_codec_writes_what_coco_writes(masks):
    rles = encode_masks(masks)
    assert [rle["counts"] for rle in rles] == coco_counts(masks)
    assert all(rle["size"] == list(masks.shape[1:]) for rle in rles)
    for mask, rle in zip(masks, rles):
        np.testing.assert_array_equal(decode_mask(rle), mask)
        assert decode_mask(rle).dtype == bool


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 19))))
def test_the_accelerator_path_writes_the_same(masks):
    tensor = torch.from_numpy(masks)
    assert tube_module._encode_edges(tube_module._edges(tensor), masks.shape[1]) == encode_masks(tensor)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "uint8 of 0 and 255", "float"])
def test_any_layout_and_type(layout):
    masks = torch.rand(3, 10, 13, generator=torch.Generator().manual_seed(1)) < 0.4
    given_masks = {
        "contiguous": masks,
        "transposed": masks.transpose(1, 2).contiguous().transpose(1, 2),
        "sliced": torch.nn.functional.pad(masks, (2, 5, 1, 3))[:, 1:11, 2:15],
        "uint8 of 0 and 255": masks.to(torch.uint8) * 255,
        "float": masks.float() * 0.3,
    }[layout]
    assert [rle["counts"] for rle in encode_masks(given_masks)] == coco_counts(masks.numpy())


def test_large_runs():
    masks = torch.zeros(2, 720, 1281, dtype=torch.bool)
    masks[0, 5:700, 3:1200] = True
    assert [rle["counts"] for rle in encode_masks(masks)] == coco_counts(masks.numpy())


def test_no_masks_and_wrong_shape():
    assert encode_masks(torch.zeros(0, 4, 5)) == []
    with pytest.raises(ValueError, match="expected shape"):
        encode_masks(torch.zeros(4, 5))


@pytest.mark.parametrize(
    "counts, problem",
    [
        ("", "empty"),
        ("6", "do not add up"),
        ("6>", "do not add up"),
        ("6T", "middle of a number"),
        ("6 ", "outside the run-length alphabet"),
        ("6ü", "outside the run-length alphabet"),
        ("L", "negative"),
        ("ooooooooo0", "negative or oversized"),
        ([6, -1, 7], "not a list of run lengths"),
        ([6.5, 5.5], "not a list of run lengths"),
        ([6, 5], "do not add up"),
    ],
)
def test_malformed_masks_are_refused(counts, problem):
    with pytest.raises(DataError, match=problem):
        decode_mask({"size": [3, 4], "counts": counts})


@pytest.mark.parametrize("size", [[3], [0, 4], [-3, 4], ["a", 4], None, [65536, 65536]])
def test_bad_sizes_are_refused(size):
    with pytest.raises(DataError, match="size"):
        decode_mask({"size": size, "counts": "<"})


def test_every_spelling_of_counts():
    masks = squares((2, 3))
    (rle,) = encode_masks(masks)
    runs = [3 * 12 + 2, 3, 9, 3, 9, 3, 9, 3, 12 * 17 - 12 * 7 + 7]
    for counts in (rle["counts"], rle["counts"].encode(), runs):
        np.testing.assert_array_equal(decode_mask({"size": [12, 17], "counts": counts}), masks[0])


def test_builder_collects_frames_in_any_order():
    builder = TubeBuilder()
    builder.add_frame(2, [7, 5], squares((0, 0), (5, 5)), scores=[0.5, 0.9], labels=[1, 0])
    builder.add_frame(0, torch.tensor([5]), squares((5, 4)), scores=torch.tensor([0.7]), labels=torch.tensor([3]))
    builder.add_frame(1, [], torch.zeros(0, 12, 17))
    first, second = builder.build(num_frames=4)
    assert (first.track_id, first.category, first.score) == (7, 1, 0.5)
    assert [mask is None for mask in first.segmentations] == [True, True, False, True]
    assert (second.track_id, second.category) == (5, 0)  # labels 0 and 3 once each: the smaller
    assert second.score == pytest.approx(0.8)
    np.testing.assert_array_equal(decode_mask(second.segmentations[0]), squares((5, 4))[0])
    assert len(builder) == 2


def test_builder_refuses_rows_that_do_not_match():
    with pytest.raises(ValueError, match="lengths differ"):
        TubeBuilder().add_frame(0, [1, 2], squares((0, 0)))


def test_encoding_in_the_background_gives_the_same_tubes():
    expected, builder = TubeBuilder(), TubeBuilder()
    for frame in range(3 * TubeBuilder.MAX_PENDING):
        masks = squares((frame % 9, 1), (2, frame % 13))
        expected.add_frame(frame, [1, 2], masks, [0.5, 0.5], [0, 0])
        builder._encode_later(frame, [1, 2], masks)
        assert len(builder._pending) <= TubeBuilder.MAX_PENDING
    for track_id in (1, 2):
        assert builder.segmentations(track_id, 30) == expected.segmentations(track_id, 30)


def test_tube_survives_json():
    tube = Tube(category=3, score=0.25, segmentations=[None, *encode_masks(squares((1, 1)))], track_id=9)
    entry = json.loads(json.dumps(tube.to_json(video_id=4, category_id=11)))
    assert entry["category_id"] == 11 and entry["video_id"] == 4
    assert (entry["score"], entry["segmentations"]) == (0.25, tube.segmentations)


def test_builder_keeps_the_scores_by_frame():
    builder = TubeBuilder()
    mask = np.ones((1, 4, 5), bool)
    for frame, score in ((0, 0.5), (2, 0.75), (2, 0.25)):
        builder.add_frame(frame, [7], mask, [score], [0])
    (tube,) = builder.build(4)
    assert tube.frame_scores == [0.5, None, 0.25, None] and tube.score == 0.5
    assert "frame_scores" not in tube.to_json(1)
