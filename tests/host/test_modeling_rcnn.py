import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    Backbone,
    build_model,
    build_sem_seg_head,
)
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage


def small_cfg():
    """Mask R-CNN with a narrow ResNet-18."""
    cfg = get_cfg()
    model = cfg.MODEL
    model.DEVICE, model.MASK_ON, model.BACKBONE.NAME = "cpu", True, "build_resnet_fpn_backbone"
    model.RESNETS.DEPTH, model.RESNETS.RES2_OUT_CHANNELS, model.FPN.OUT_CHANNELS = 18, 64, 16
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.PRE_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.PRE_NMS_TOPK_TEST = 50
    model.RPN.POST_NMS_TOPK_TEST, model.RPN.BATCH_SIZE_PER_IMAGE = 50, 32
    model.ROI_HEADS.NAME, model.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
    model.ROI_HEADS.NUM_CLASSES, model.ROI_HEADS.BATCH_SIZE_PER_IMAGE, model.ROI_HEADS.SCORE_THRESH_TEST = 2, 16, 0.0
    model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.NUM_FC, model.ROI_BOX_HEAD.FC_DIM = "FastRCNNConvFCHead", 1, 16
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.PIXEL_STD, model.RESNETS.NORM, model.BACKBONE.FREEZE_AT = [58.0, 57.0, 56.0], "BN", 0
    model.ROI_MASK_HEAD.NUM_CONV, model.ROI_MASK_HEAD.CONV_DIM = 1, 8
    return cfg


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(small_cfg())


def image(height=64, width=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def labelled(height=64, width=96):
    masks = torch.zeros(1, height, width, dtype=torch.bool)
    masks[:, 10:50, 20:60] = True
    return Instances(
        (height, width),
        gt_boxes=Boxes(torch.tensor([[20.0, 10.0, 60.0, 50.0]])),
        gt_classes=torch.tensor([1]),
        gt_masks=BitMasks(masks),
    )


def test_images_are_normalised_and_then_padded_with_zeros(model):
    cfg = small_cfg()
    images = model.preprocess_image([{"image": image()}, {"image": image(40, 70)}])
    assert images.tensor.shape == (2, 3, 64, 96) and images.image_sizes == [(64, 96), (40, 70)]
    mean, std = torch.tensor(cfg.MODEL.PIXEL_MEAN).view(3, 1, 1), torch.tensor(cfg.MODEL.PIXEL_STD).view(3, 1, 1)
    torch.testing.assert_close(images.tensor[1, :, :40, :70], (image(40, 70) - mean) / std)
    assert (images.tensor[1, :, 40:] == 0).all() and (images.tensor[1, :, :, 70:] == 0).all()


def test_checkpoints_hold_weights_only(model):
    names = set(model.state_dict())
    assert not any("pixel" in name or "anchor_generator" in name for name in names)
    assert {"pixel_mean", "pixel_std"} < {name for name, _ in model.named_buffers()}
    assert model.device == torch.device("cpu")


def test_training_returns_losses_and_learns():
    torch.manual_seed(0)
    model = build_model(small_cfg()).train()
    batch = [{"image": image(), "instances": labelled()}, {"image": image(seed=1), "instances": labelled()}]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    with EventStorage() as storage:
        for _ in range(12):
            losses = model(batch)
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
        assert {"rpn/num_pos_anchors", "roi_head/num_fg_samples", "mask_rcnn/accuracy"} <= set(storage.latest())
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    assert min(totals[-3:]) < 0.8 * totals[0]


@torch.no_grad()
def test_detections_come_in_the_wanted_size(model):
    model.eval()
    inputs = [{"image": image(), "height": 128, "width": 144}, {"image": image(40, 70)}]
    outputs = [x["instances"] for x in model(inputs)]
    assert [x.image_size for x in outputs] == [(128, 144), (40, 70)]
    for x in outputs:
        assert 0 < len(x) <= 100 and x.pred_masks.shape == (len(x), *x.image_size)
        assert x.pred_masks.dtype == torch.bool and torch.equal(x.scores, x.scores.sort(descending=True).values)
        assert x.pred_boxes.inside_box(x.image_size, 1).all()


@torch.no_grad()
def test_detections_can_be_given(model):
    model.eval()
    inputs = [{"image": image()}]
    (raw,) = model.inference(inputs, do_postprocess=False)
    assert raw.image_size == (64, 96) and raw.pred_masks.shape[1:] == (1, 28, 28)
    given = Instances((64, 96), pred_boxes=raw.pred_boxes[:2], pred_classes=raw.pred_classes[:2])
    (again,) = model.inference(inputs, [given], do_postprocess=False)
    torch.testing.assert_close(again.pred_masks, raw.pred_masks[:2])
    with pytest.raises(AssertionError):
        model.train().inference(inputs)


@torch.no_grad()
def test_proposals_can_come_with_the_data():
    cfg = small_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg).eval()
    assert model.proposal_generator is None
    proposals = Instances(
        (64, 96), proposal_boxes=Boxes(torch.tensor([[5.0, 5.0, 40.0, 40.0]])), objectness_logits=torch.zeros(1)
    )
    (output,) = model([{"image": image(), "proposals": proposals}])
    assert len(output["instances"]) <= 2  # one box of each class


def test_projects_register_their_own_parts():
    @BACKBONE_REGISTRY.register()
    class FlatBackbone(Backbone):
        def __init__(self, cfg, input_shape):
            super().__init__()
            self.channels = input_shape.channels

        def forward(self, x):
            return {"x": x}

    @SEM_SEG_HEADS_REGISTRY.register()
    class FlatHead(torch.nn.Module):
        def __init__(self, cfg, input_shape):
            super().__init__()
            self.channels = input_shape["x"]

    @META_ARCH_REGISTRY.register()
    class FlatModel(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()
            from detectron2.modeling import build_backbone

            self.backbone = build_backbone(cfg)
            self.head = build_sem_seg_head(cfg, {"x": self.backbone.channels})
            self.weight = torch.nn.Parameter(torch.zeros(1))

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "FlatModel", "FlatBackbone"
    cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.MODEL.PIXEL_MEAN = "FlatHead", [0.0, 0.0, 0.0, 0.0]
    model = build_model(cfg)
    assert model.weight.device.type == "meta" and model.head.channels == 4
    with pytest.raises(AssertionError):
        BACKBONE_REGISTRY.register(FlatBackbone)
    cfg.MODEL.META_ARCHITECTURE = "NoSuchModel"
    with pytest.raises(KeyError):
        build_model(cfg)


def test_training_images_are_drawn_now_and_then():
    pytest.importorskip("detectron2.utils.visualizer")
    cfg = small_cfg()
    cfg.VIS_PERIOD = 2
    model = build_model(cfg).train()
    drawn = []
    for iteration in (0, 1):
        with EventStorage(iteration) as storage:
            storage.put_image = lambda name, img, it=iteration: drawn.append((it, name.split(":")[0], img.shape))
            model([{"image": image(), "instances": labelled()}])
    assert {it for it, _, _ in drawn} == {0}
    assert (0, "Left", (3, 64, 192)) in drawn  # two pictures side by side
    assert any(name.startswith("Left") and shape == (3, 28, 56) for _, name, shape in drawn)
