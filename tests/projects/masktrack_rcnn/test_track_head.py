import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances

from projects import default_config
from projects.masktrack_rcnn.track_head import TrackHead, sample_positives
from vis_core.errors import ConfigError
from vis_core.modeling.mmdet import LowQualityMatcher

SHAPES = {f"p{k}": ShapeSpec(channels=8, stride=2**k) for k in (2, 3, 4, 5)}


def build(**overrides) -> TrackHead:
    cfg = default_config()
    cfg.MODEL.TRACK_HEAD.FC_DIM = 12
    for key, value in overrides.items():
        cfg.MODEL.TRACK_HEAD[key] = value
    return TrackHead(cfg, SHAPES)


def features(num_images: int) -> dict:
    return {name: torch.randn(num_images, 8, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()}


def boxes(n: int) -> torch.Tensor:
    corners = torch.rand(n, 4) * 60
    return torch.cat([corners[:, :2], corners[:, :2] + 4 + corners[:, 2:]], dim=1)


def test_embeddings_in_order_of_images():
    head, maps = build(), features(2)
    first, second = Boxes(boxes(3)), Boxes(boxes(2))
    embeds = head(maps, [first, second])
    assert embeds.shape == (5, 12)
    alone = head({name: x[1:] for name, x in maps.items()}, [second])
    torch.testing.assert_close(embeds[3:], alone)


def test_final_activation():
    maps, some = features(1), [Boxes(boxes(20))]
    assert build()(maps, some).min() == 0
    assert build(FINAL_ACTIVATION="none")(maps, some).min() < 0


def test_no_boxes():
    head = build()
    embeds = head(features(2), [Boxes(torch.zeros(0, 4)), Boxes(torch.zeros(0, 4))])
    assert embeds.shape == (0, 12)
    embeds.sum().backward()
    assert all((p.grad == 0).all() for p in head.parameters())


def test_number_of_layers():
    assert sorted(dict(build(NUM_FC=3).named_parameters())) == [
        f"fc{k}.{p}" for k in (1, 2, 3) for p in ("bias", "weight")
    ]


@pytest.mark.parametrize("key", ["FINAL_ACTIVATION", "LOSS_DENOMINATOR"])
def test_unknown_choices_are_refused(key):
    with pytest.raises(ConfigError, match=f"MODEL.TRACK_HEAD.{key}.*nonsense"):
        build(**{key: "nonsense"})


MATCHER = LowQualityMatcher([0.5], [0, 1], 0.5)


def test_positives_are_ground_truth_and_close_proposals():
    gt = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70]])
    proposals = torch.tensor([[1.0, 0, 11, 10], [52, 52, 70, 70], [30, 30, 40, 40]])
    drawn, owner = sample_positives(proposals, gt, MATCHER, max_positives=32)
    assert sorted(owner.tolist()) == [0, 0, 1, 1]
    assert [30.0, 30, 40, 40] not in drawn.tolist()
    for box, index in zip(drawn, owner):
        assert (box - gt[index]).abs().max() <= 2


def test_number_of_positives_is_limited_and_drawn_by_the_generator():
    gt = torch.tensor([[0.0, 0, 10, 10]])
    proposals = gt + torch.linspace(0, 1, 40)[:, None]
    samples = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        samples.append(sample_positives(proposals, gt, MATCHER, max_positives=8)[0])
    assert [len(x) for x in samples] == [8, 8, 8]
    assert (samples[0] == samples[1]).all() and (samples[0] != samples[2]).any()


def test_no_ground_truth_gives_no_positive():
    drawn, owner = sample_positives(boxes(5), torch.zeros(0, 4), MATCHER, max_positives=8)
    assert drawn.shape == (0, 4) and owner.shape == (0,)


def test_sample_gives_identities():
    proposals = [Instances((128, 128), proposal_boxes=Boxes(boxes(5)))]
    gt = Instances((128, 128), gt_boxes=Boxes(boxes(2)), gt_ids=torch.tensor([70, 90]))
    drawn, ids = build().sample(proposals, [gt])
    assert len(drawn[0]) == len(ids[0]) >= 2
    assert set(ids[0].tolist()) == {70, 90}


def test_losses_are_means_over_pairs():
    head = build(LOSS_WEIGHT=3.0)
    pairs = [
        (torch.randn(n, 12), torch.arange(n), torch.randn(m, 12), torch.arange(m)) for n, m in ((3, 2), (1, 4), (2, 0))
    ]
    together = head.losses(*(list(x) for x in zip(*pairs)))
    alone = [head.losses(*([x] for x in pair)) for pair in pairs]
    for k in (0, 1):
        torch.testing.assert_close(together[k], torch.stack([x[k] for x in alone]).mean())
    assert alone[2][0] == 0 and alone[2][1] == 100
