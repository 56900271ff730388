import numpy as np
import pytest
import torch

from projects.vmt.results import VideoObjects
from vis_core.errors import ConfigError
from vis_core.tube import decode_mask


def dense(tubes):
    return [
        (tube.category, tube.track_id, [None if m is None else decode_mask(m) for m in tube.segmentations])
        for tube in tubes
    ]


def assert_same(tubes, others):
    assert [tube.score for tube in tubes] == pytest.approx([tube.score for tube in others], abs=1e-6)
    for (category, id_, masks), (other_category, other_id, other_masks) in zip(
        dense(tubes), dense(others), strict=True
    ):
        assert (category, id_) == (other_category, other_id)
        for a, b in zip(masks, other_masks, strict=True):
            assert (a is None) == (b is None) and (a is None or (a != b).mean() < 1e-3)


@pytest.mark.parametrize("stage", ["coarse", "second", "refined"])
def test_tubes_have_the_videos_own_size_and_length(small_model, moving_square, stage):
    model = small_model("MODEL.VMT.TEST.STAGE", stage)
    video = moving_square(3)
    (result,) = model([video])
    assert 0 < len(result["tubes"]) <= 10
    for tube in result["tubes"]:
        assert len(tube) == 3 and 0 <= tube.category < 40
        assert all(mask["size"] == [video["height"], video["width"]] for mask in tube.segmentations if mask)


def test_frames_are_read_once_in_order(small_model, moving_square):
    model, video = small_model(), moving_square(4)
    wanted = model([video])[0]["tubes"]
    assert_same(model([{**video, "image": iter(video["image"])}])[0]["tubes"], wanted)


def test_a_window_that_covers_the_video_is_the_whole_clip(small_model, moving_square):
    video = moving_square(5)
    whole = small_model("MODEL.VMT.TEST.WINDOW", "0")([video])[0]["tubes"]
    assert whole
    for length in ("5", "9"):
        window = small_model("MODEL.VMT.TEST.WINDOW", length, "MODEL.VMT.TEST.OVERLAP", "2")
        assert_same(window([video])[0]["tubes"], whole)


def test_windows_are_linked(small_model, moving_square):
    video = {**moving_square(1), "image": [moving_square(1)["image"][0]] * 12}  # nothing moves
    opts = ("MODEL.VMT.TEST.WINDOW", "5", "MODEL.VMT.TEST.OVERLAP", "2")
    still = small_model(*opts)([video])[0]["tubes"]
    whole = small_model("MODEL.VMT.TEST.WINDOW", "0")([video])[0]["tubes"]
    assert_same(still, whole)  # each object is found again in each of the four windows
    opts += ("MODEL.VMT.TEST.LINK_THRESHOLD", "2.0")
    apart = small_model(*opts, "MODEL.VMT.TEST.LINK_MEMORY", "0")([video])[0]["tubes"]
    assert all(any(mask is None for mask in tube.segmentations) for tube in apart)
    # Nothing is linked to the clip before, but every second clip's objects are remembered.
    again = small_model(*opts, "MODEL.VMT.TEST.LINK_MEMORY_THRESHOLD", "0.99")([video])[0]["tubes"]
    assert any(tube.segmentations[0] and tube.segmentations[7] for tube in again)


def test_frames_together_or_one_by_one(small_model, moving_square):
    """What a GPU does, a batch of frames, gives what a CPU does."""
    model, video = small_model(), moving_square(4)
    images = model.preprocess_images(video["image"]).tensor
    with torch.no_grad():
        tokens, maps = model.encode(images)
        for t, frame in enumerate(model.inference.encoded_frames(model, video["image"])):
            assert torch.allclose(frame.tokens.tokens[0][0], tokens.tokens[0][t], atol=1e-5)
            for x, y in zip(frame.maps.maps, maps.maps.frames(slice(t, t + 1))):
                assert torch.allclose(x, y, atol=1e-5)
            again = model.detail(images[t : t + 1], frame.maps)
            assert torch.allclose(again, model.mask_features.detail(images, maps.stem)[t : t + 1], atol=1e-5)


def test_autocast_only_changes_cuda(small_model, moving_square):
    video = moving_square(2)
    assert_same(small_model("MODEL.VMT.TEST.AUTOCAST", "True")([video])[0]["tubes"], small_model()([video])[0]["tubes"])


def test_swin_needs_no_stem(small_model, moving_square):
    swin = [
        "MODEL.BACKBONE.NAME",
        "D2SwinTransformer",
        "MODEL.SWIN.EMBED_DIM",
        "12",
        "MODEL.SWIN.DEPTHS",
        "[1, 1, 1, 1]",
    ]
    swin += ["MODEL.SWIN.NUM_HEADS", "[1, 1, 1, 1]", "MODEL.SWIN.WINDOW_SIZE", "4"]
    model = small_model(*swin)
    assert model.backbone.stem_dim is None
    assert model([moving_square(2)])[0]["tubes"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.STAGE", "finest", "STAGE: 'finest' is not one of coarse, second, refined"),
        ("TEST.OVERLAP", "40", "OVERLAP: 40 frames of a WINDOW of 40"),
        ("REFINER", "octree", "REFINER: 'octree' is not one of release, quadtree"),
    ],
)
def test_wrong_values_are_refused(small_model, key, value, message):
    with pytest.raises(ConfigError, match=message):
        small_model(f"MODEL.VMT.{key}", value)


def objects_with(logits, masks):
    objects = VideoObjects()
    ids = objects.add_clip([None] * len(logits), torch.tensor(logits), len(masks))
    for t, frame in enumerate(masks):
        objects.add_masks(t, ids, torch.from_numpy(frame))
    return objects


def test_results_keep_to_the_released_rules():
    masks = np.zeros((2, 3, 4, 5), dtype=bool)  # frames, objects
    masks[0, 0, 1:3] = masks[:, 2, :, 2:] = True
    logits = [[-9.0, 2.0, 1.0], [4.0, 4.0, 4.0], [0.0, -9.0, 3.0]]
    tubes = objects_with(logits, masks).tubes(2, 9, 0.001, num_classes=3, class_offset=0)
    # Object 1 has the best scores and no pixel; object 2 comes first as it was hit first, with its low scores, too.
    assert [(tube.track_id, tube.category) for tube in tubes] == [(2, 2), (2, 0), (2, 1), (0, 1), (0, 2), (0, 0)]
    assert tubes[3].segmentations[1] is not None and not decode_mask(tubes[3].segmentations[1]).any()
    assert tubes[2].segmentations == [None, None]  # scores below 0.001 have no masks
    # Logits without a class still take a place among the best, and are not put out.
    shifted = objects_with(logits, masks).tubes(2, 6, 0.001, num_classes=1, class_offset=1)
    assert [(tube.track_id, tube.category) for tube in shifted] == [(0, 0)]


def test_logits_are_means_over_frames():
    objects = VideoObjects()
    (first,) = objects.add_clip([None], torch.tensor([[3.0, 0.0]]), 4)
    assert objects.add_clip([None, first], torch.tensor([[1.0, 1.0], [0.0, 6.0]]), 2) == [1, 0]
    assert torch.allclose(objects.logits(), torch.tensor([[2.0, 2.0], [1.0, 1.0]]))


def test_clips_that_lack_an_object_speak_against_it():
    masks = torch.ones(2, 4, 5, dtype=torch.bool)
    objects = VideoObjects()
    ids = objects.add_clip([None, None], torch.tensor([[2.0], [1.0]]), 4)
    objects.add_masks(0, ids, masks)
    objects.add_clip([1], torch.tensor([[1.0]]), 12)
    probabilities = torch.tensor([2.0, 1.0]).sigmoid().tolist()
    released = objects.tubes(16, 2, 0.001, num_classes=1, class_offset=0)
    assert [(tube.track_id, tube.score) for tube in released] == [(0, probabilities[0]), (1, probabilities[1])]
    weighted = objects.tubes(16, 2, 0.001, num_classes=1, class_offset=0, coverage_power=0.5)
    assert [(tube.track_id, tube.score) for tube in weighted] == [(1, probabilities[1]), (0, probabilities[0] / 2)]
