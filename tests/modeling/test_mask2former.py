"""The segmenter beyond what the published numbers pin: training, inference, shortcuts, errors."""

import copy

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch.nn import functional as F

from vis_core.config import add_vis_config
from vis_core.errors import ConfigError
from vis_core.modeling import add_mask2former_config
from vis_core.modeling.attention import Attention
from vis_core.modeling.mask2former import MaskMatcher, MaskTargets, instance_inference, mask_targets
from vis_core.modeling.mask2former.query_decoder import _shrink, allowed_tokens


def config():
    cfg = get_cfg()
    add_vis_config(cfg)
    add_mask2former_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    cfg.MODEL.BACKBONE.NAME = "build_small_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SMALL_RESNET.WIDTHS, cfg.MODEL.SMALL_RESNET.BLOCKS = [16, 24, 32, 48], [1, 1, 1, 1]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS = 1
    cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD = 32
    node = cfg.MODEL.MASK_FORMER
    node.HIDDEN_DIM, node.NHEADS, node.DIM_FEEDFORWARD = 32, 4, 32
    node.NUM_OBJECT_QUERIES, node.DEC_LAYERS, node.TRAIN_NUM_POINTS = 6, 5, 64
    return cfg


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(config())


def square(count: int, height: int, width: int) -> Instances:
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[i : i + 20, 2 * i : 2 * i + 15] = True
    return Instances((height, width), gt_classes=torch.arange(count) % 3, gt_masks=BitMasks(masks))


def image(height: int, width: int) -> torch.Tensor:
    return torch.randint(256, (3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("counts", [(2, 3), (0, 1), (0, 0)])
def test_training_step_is_finite_and_reaches_every_parameter(model, counts, dtype):
    model.train().zero_grad()
    sizes = [(60, 70), (40, 90)]
    batch = [{"image": image(*size), "instances": square(count, *size)} for size, count in zip(sizes, counts)]
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model(batch)
    names = [f"loss_{kind}{suffix}" for kind in ("ce", "mask", "dice") for suffix in ("", "_0", "_1", "_2", "_3")]
    assert sorted(losses) == sorted(names)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    if not any(counts):
        assert all(loss == 0 for name, loss in losses.items() if "ce" not in name)


def test_more_objects_than_queries(model):
    model.train()
    losses = model([{"image": image(64, 64), "instances": square(9, 64, 64)}])
    assert all(loss.isfinite() for loss in losses.values())


@torch.no_grad()
def test_inference(model):
    model.eval()
    batch = [{"image": image(60, 70), "height": 90, "width": 105}, {"image": image(64, 32)}]
    first, second = (x["instances"] for x in model(batch))
    assert first.image_size == (90, 105) and first.pred_masks.shape == (18, 90, 105)  # all pairs: 6 queries, 3 classes
    assert second.image_size == (64, 32) and second.pred_masks.dtype == torch.bool
    assert len(first.pred_boxes) == len(first.scores) == len(first.pred_classes) == 18


def test_scores_and_masks_of_the_best_pairs():
    logits = torch.tensor([[2.0, 0, 0], [0, 3, 0]])  # two classes and "no object"
    masks = torch.full((2, 4, 4), -5.0)
    masks[0, :2] = 1.0
    found = instance_inference(logits, masks, (16, 16), (16, 12), (16, 12), num_detections=2)
    order = found.scores.argsort(descending=True)
    assert found.pred_classes[order].tolist() == [0, 1]
    probabilities = logits.softmax(-1)
    quality = F.interpolate(masks[None], size=(16, 16), mode="bilinear", align_corners=False)[0, :, :, :12]
    expected = probabilities[0, 0] * quality[0][quality[0] > 0].sigmoid().mean()
    torch.testing.assert_close(found.scores[order[0]], expected)
    assert found.scores[order[1]] == 0  # a mask without a pixel
    assert found.pred_masks[order[1]].sum() == 0
    assert found.pred_boxes.tensor[order[0]].tolist()[:3] == [0, 0, 12]


@torch.no_grad()
def test_masks_only_where_needed_change_nothing(model):
    model.eval()
    features = model.backbone(torch.randn(2, 3, 64, 96))
    short, full = model.sem_seg_head(features), model.sem_seg_head(features, with_aux=True)
    assert "aux_outputs" not in short and len(full["aux_outputs"]) == 4
    for name in short:
        torch.testing.assert_close(short[name], full[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(3, 5), (6, 10), (12, 20), (4, 10), (8, 13)])
def test_shrinking_is_bilinear(size):
    x = torch.randn(1, 2, 24, 40, dtype=torch.float64)
    expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(_shrink(x, size), expected)


def test_a_query_without_mask_sees_everything():
    logits = torch.tensor([[-1.0, 2.0, 0.0], [-1.0, -2.0, -3.0]]).view(1, 2, 1, 3)
    assert allowed_tokens(logits).tolist() == [[[False, True, True], [True, True, True]]]


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    allowed = torch.rand(2, 5, 7) < 0.5
    allowed[..., 0] = True
    blocked = ~allowed.repeat_interleave(4, dim=0)
    expected, _ = theirs(query, key, value, attn_mask=blocked)
    torch.testing.assert_close(ours(query, key, value, allowed), expected)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])


def test_pixel_decoder_stays_in_float32_under_autocast(model):
    decoder = model.sem_seg_head.pixel_decoder
    features = model.backbone(torch.randn(1, 3, 64, 64))
    expected = decoder(features)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(decoder(features)[0], expected)
        assert decoder({name: x.bfloat16() for name, x in features.items()})[0].dtype == torch.float32


def test_targets_of_any_mask_type_are_padded():
    polygon = np.array([2.0, 1, 6, 1, 6, 5, 2, 5])
    by_polygon = Instances((8, 9), gt_classes=torch.tensor([1]), gt_masks=PolygonMasks([[polygon]]))
    bits = torch.zeros(1, 8, 9, dtype=torch.bool)
    bits[0, 1:5, 2:6] = True
    others = [Instances((8, 9), gt_classes=torch.tensor([1]), gt_masks=masks) for masks in (BitMasks(bits), bits)]
    for target in mask_targets([by_polygon, *others], (32, 32)):
        assert target.labels.tolist() == [1] and target.masks.shape == (1, 32, 32)
        assert target.masks.dtype == torch.bool
        assert torch.equal(target.masks[:, :8, :9], bits) and target.masks.sum() == bits.sum()


def test_matching_survives_overflow():
    outputs = {"pred_logits": torch.zeros(1, 4, 4), "pred_masks": torch.full((1, 4, 8, 8), float("nan"))}
    targets = [MaskTargets(torch.tensor([0, 2]), torch.ones(2, 32, 32, dtype=torch.bool))]
    ((queries, objects),) = MaskMatcher(num_points=16)(outputs, targets)
    assert len(queries) == 2 and sorted(objects.tolist()) == [0, 1]


def test_matching_finds_the_obvious():
    masks = torch.full((1, 3, 8, 8), -20.0)
    masks[0, 0, :, 4:], masks[0, 2, :4] = 20, 20
    target = torch.zeros(2, 32, 32, dtype=torch.bool)
    target[0, :16], target[1, :, 16:] = True, True
    ((queries, objects),) = MaskMatcher()(
        {"pred_logits": torch.zeros(1, 3, 4), "pred_masks": masks}, [MaskTargets(torch.tensor([1, 1]), target)]
    )
    assert queries.tolist() == [0, 2] and objects.tolist() == [1, 0]


def test_queries_of_the_first_checkpoints(model):
    state = copy.deepcopy(model.state_dict())
    prefix = "sem_seg_head.predictor."
    state[f"{prefix}static_query.weight"] = state.pop(f"{prefix}query_feat.weight") + 1
    fresh = build_model(config())
    fresh.load_state_dict(state)
    torch.testing.assert_close(fresh.sem_seg_head.predictor.query_feat.weight, state[f"{prefix}static_query.weight"])


def test_unknown_names_are_config_errors():
    cfg = config()
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "Nothing"
    with pytest.raises(ConfigError, match=r"TRANSFORMER_DECODER_NAME: unknown decoder 'Nothing' \(known: .*MultiScale"):
        build_model(cfg)
    cfg = config()
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "p3"]
    with pytest.raises(ConfigError, match="IN_FEATURES: the backbone puts out no p3"):
        build_model(cfg)


@torch.no_grad()
def test_head_compiles_without_graph_break(model):
    head = model.eval().sem_seg_head
    features = model.backbone(torch.randn(1, 3, 64, 96))
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features)["pred_masks"], head(features)["pred_masks"])
    torch._dynamo.reset()
