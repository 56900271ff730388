"""Training and data preparation of MaskTrack R-CNN against mmtracking 0.14 and mmdetection (fixtures/masktrack).

Tolerances are those that the fixtures' README suggests: losses and gradient norms 1e-4 relative, logits 5e-4,
boxes 5e-3 px; assignments and targets exact.
"""

import numpy as np
import pytest
import torch
from closeness import close
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.transforms.transform import HFlipTransform
from masktrack_model import as_frames, clip_frame, config, filled, load, unpack_masks

import vis_core  # noqa: F401  makes detectron2 importable
from projects.masktrack_rcnn.checkpoint import rename
from projects.masktrack_rcnn.losses import match_loss, match_targets
from projects.masktrack_rcnn.track_head import TrackHead
from vis_core.data import NetworkFrames, open_video
from vis_core.data.resize import OpenCVResizeTransform, resize_transform
from vis_core.modeling.mmdet import LowQualityMatcher, MMDetROIPooler
from vis_core.tracking import dot_product_logits, pairwise_iou

LOSS, LOGITS, BOXES = 1e-4, 5e-4, 5e-3


@pytest.fixture(scope="module")
def losses_npz(fixtures_root):
    return np.load(fixtures_root / "masktrack" / "losses.npz")


@pytest.fixture(scope="module")
def preparation(fixtures_root):
    return np.load(fixtures_root / "masktrack" / "preprocess_assign.npz")


def cases(z, prefix: str) -> list[str]:
    return sorted({"/".join(key.split("/")[:2]) for key in z.files if key.startswith(prefix)})


@pytest.fixture(scope="module")
def track_head():
    head = TrackHead(in_features=["p2"], pooler=MMDetROIPooler(7, (0.25,)), input_size=256 * 49, num_fc=2, fc_dim=1024)
    for k in (1, 2):
        for name, parameter in getattr(head, f"fc{k}").named_parameters():
            parameter.data.copy_(filled(f"track_head.embed_head.fcs.{k - 1}.{name}", parameter.shape))
    return head


def test_track_loss(losses_npz, track_head):
    z = losses_npz
    for case in cases(z, "track/"):
        rs = np.random.RandomState(z[f"{case}/seed"])
        sums, pairs = np.zeros(2), []
        for i, counts in enumerate(zip(z[f"{case}/n_key"], z[f"{case}/n_ref"])):
            features = [torch.from_numpy(rs.standard_normal((n, 256, 7, 7)).astype(np.float32)) for n in counts]
            sums += [x.double().sum().item() for x in features]
            key, ref = (track_head.embed(x) for x in features)
            close(dot_product_logits(key, ref).detach(), z[f"{case}/{i}/logits"], LOGITS)
            key_ids, ref_ids = (torch.from_numpy(z[f"{case}/{i}/{name}"]) for name in ("gt_ids", "ref_ids"))
            positives = z[f"{case}/{i}/pos_assigned_gt"]
            ids = key_ids[torch.from_numpy(positives)]
            assert match_targets(ids, ref_ids).tolist() == z[f"{case}/{i}/target"][: len(positives)].tolist()
            pairs.append((key[: len(positives)], ids, ref, ref_ids))
        close(sums, z[f"{case}/feat_check"], 1e-2)

        loss, accuracy = track_head.losses(*(list(x) for x in zip(*pairs)))
        assert loss.item() == pytest.approx(z[f"{case}/loss_match"].item(), rel=LOSS)
        assert accuracy.item() == pytest.approx(z[f"{case}/match_accuracy"].item(), rel=LOSS)
        track_head.zero_grad()
        loss.backward()  # also where there is nothing to learn
        for k in (1, 2):
            theirs = z[f"{case}/grad_fc{k - 1}_bias"]
            close(getattr(track_head, f"fc{k}").bias.grad, theirs, LOSS * max(np.abs(theirs).max(), 1.0))
        ours = track_head.fc2.weight.grad.norm().item()
        assert ours == pytest.approx(z[f"{case}/grad_fc1_weight_norm"].item(), rel=LOSS)

        of_2019 = [
            match_loss(dot_product_logits(key, ref), match_targets(ids, ref_ids), "positives")
            for key, ids, ref, ref_ids in pairs
        ]
        theirs = z[f"{case}/loss_match_2019norm"].item()
        assert torch.stack(of_2019).mean().item() == pytest.approx(theirs, rel=LOSS)


def objects(boxes, ids, image_size, labels=None, masks=None) -> Instances:
    labels = np.zeros(len(boxes), dtype=np.int64) if labels is None else labels
    masks = np.zeros((len(boxes), *image_size), dtype=bool) if masks is None else masks
    return Instances(
        image_size,
        gt_boxes=Boxes(torch.from_numpy(boxes)),
        gt_classes=torch.from_numpy(labels).long(),
        gt_ids=torch.from_numpy(ids),
        gt_masks=BitMasks(torch.from_numpy(masks)),
    )


def test_training_step(fixtures_root, losses_npz, monkeypatch):
    """One step with what the reference drew at random; everything else is computed."""
    z = {key.removeprefix("train/"): losses_npz[key] for key in losses_npz.files if key.startswith("train/")}
    image_size = z["frames"].shape[1:3]
    key = objects(z["key_boxes"], z["key_ids"], image_size, z["labels"], unpack_masks(z["key_masks"], *image_size))
    ref = objects(z["ref_boxes"], z["ref_ids"], image_size)
    model = load(fixtures_root, "r50").train()
    seen = {}

    def stored_anchors(anchors, gt_instances):
        anchors = Boxes.cat(anchors).tensor
        positive, negative = (torch.from_numpy(z[f"rpn_{kind}_index"]) for kind in ("pos", "neg"))
        matches, labels = model.proposal_generator.anchor_matcher(pairwise_iou(key.gt_boxes.tensor, anchors))
        assert matches[positive].tolist() == z["rpn_pos_gt"].tolist()
        assert labels[positive].eq(1).all() and labels[negative].eq(0).all()
        transform = model.proposal_generator.box2box_transform
        boxes = key.gt_boxes.tensor[matches]
        close(transform.get_deltas(anchors[positive], boxes[positive]), z["rpn_pos_targets"], 1e-5)
        labels = torch.full_like(labels, -1)
        labels[positive], labels[negative] = 1, 0
        return [labels], [boxes]

    def stored_rois(proposals, targets):
        seen["proposals"] = proposals[0]
        boxes = torch.from_numpy(np.concatenate([z["roi_pos_boxes"], z["roi_neg_boxes"]]))
        matches, labels = model.roi_heads.proposal_matcher(pairwise_iou(key.gt_boxes.tensor, boxes))
        num_positive = len(z["roi_pos_boxes"])
        assert labels.tolist() == [1] * num_positive + [0] * (len(boxes) - num_positive)
        assert matches[:num_positive].tolist() == z["roi_pos_gt"].tolist()
        sampled = Instances(image_size, proposal_boxes=Boxes(boxes), gt_classes=torch.from_numpy(z["roi_labels"]))
        sampled.gt_boxes, sampled.gt_masks = key.gt_boxes[matches], key.gt_masks[matches]
        targets = sampled.gt_masks[:num_positive].crop_and_resize(sampled.proposal_boxes.tensor[:num_positive], 28)
        assert (targets.numpy() == unpack_masks(z["mask_targets"], 28, 28)).all()
        transform = model.roi_heads.box_predictor.box2box_transform
        deltas = transform.get_deltas(boxes[:num_positive], sampled.gt_boxes.tensor[:num_positive])
        close(deltas, z["roi_pos_targets"], 1e-5)
        return [sampled]

    def stored_track_sample(proposals, _):
        return [Boxes(torch.from_numpy(z["track_pos_boxes"]))], [key.gt_ids[torch.from_numpy(z["track_pos_gt"])]]

    monkeypatch.setattr(model.proposal_generator, "label_and_sample_anchors", stored_anchors)
    monkeypatch.setattr(model.roi_heads, "label_and_sample_proposals", stored_rois)
    monkeypatch.setattr(model.track_head, "sample", stored_track_sample)
    with EventStorage() as storage:
        losses = model([{"image": as_frames(z["frames"]), "instances": [key, ref]}])
    total = sum(losses.values())
    total.backward()

    names = {"loss_rpn_loc": "loss_rpn_bbox", "loss_box_reg": "loss_bbox"}
    assert len(losses) == 6
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(z[names.get(name, name)].item(), rel=LOSS), name
    assert total.item() == pytest.approx(z["total"].item(), rel=LOSS)
    assert 100 * storage.latest()["fast_rcnn/cls_accuracy"][0] == pytest.approx(z["acc"].item(), rel=LOSS)
    assert storage.latest()["match_accuracy"][0] == pytest.approx(z["match_accuracy"].item(), rel=LOSS)
    close(seen["proposals"].proposal_boxes.tensor, z["proposals"][:, :4], BOXES)

    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, theirs in zip(z["grad_norm_names"].tolist(), z["grad_norms"].tolist()):
        ours = parameters[rename(name)].grad.double().norm().item() if rename(name) in parameters else -1
        assert ours == pytest.approx(theirs, rel=LOSS), name
    norms = torch.stack([p.grad.double().norm() for p in parameters.values()])
    assert norms.norm().item() == pytest.approx(z["grad_norm_total"].item(), rel=LOSS)


def test_assignment(preparation):
    gt, proposals = (torch.from_numpy(preparation[f"assign/{name}"]) for name in ("gt", "proposals"))
    matches, labels = LowQualityMatcher([0.5], [0, 1], 0.5)(pairwise_iou(gt, proposals))
    assert torch.where(labels == 1, matches + 1, 0).tolist() == preparation["assign/rcnn"].tolist()

    rpn = build_model(config("r50", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"))
    rpn = rpn.proposal_generator
    # The README's 128 x 192 pixels at strides 4 to 64.
    maps = [torch.zeros(1, 1, 128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)]
    anchors = Boxes.cat(rpn.anchor_generator(maps)).tensor
    assert anchors.double().sum().item() == pytest.approx(preparation["assign/anchor_sum"].item(), rel=1e-6)
    matches, labels = rpn.anchor_matcher(pairwise_iou(gt, anchors))
    ours = torch.where(labels == 1, matches + 1, labels.long())
    assert ours.tolist() == preparation["assign/rpn"].tolist()


def image_sizes(z) -> list[str]:
    return [key.removesuffix("/size") for key in z.files if key.endswith("/size")]


def test_image_preparation(preparation):
    z = preparation
    cfg = config("r50", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64")
    model = build_model(cfg)
    for position, name in enumerate(image_sizes(z)):
        height, width = (int(side) for side in name.split("x"))
        seed = 50 + position
        noise = np.random.RandomState(seed + 1).randint(-20, 21, (height, width, 3))
        image = np.clip(clip_frame(seed, height, width) + noise, 0, 255).astype(np.uint8)

        frames = NetworkFrames.from_config(cfg, open_video([image]))
        resized = frames[0]
        new_height, new_width = z[f"{name}/size"].tolist()
        assert resized.shape == (3, new_height, new_width)
        assert (resized[:, ::8, ::8].permute(1, 2, 0).numpy() == z[f"{name}/train_uint8"]).all()
        close([new_width / width, new_height / height], z[f"{name}/scale_wh"], 1e-6)

        network_input = model.preprocess_image([{"image": resized}]).tensor[0]
        assert list(network_input.shape) == z[f"{name}/net_shape"].tolist()
        close(network_input[:, ::8, ::8], z[f"{name}/net_input"], 1e-4)
        assert network_input.double().sum().item() == pytest.approx(z[f"{name}/net_sum"].item(), rel=1e-5)

        # mmtracking's training resizes float images; ours resizes the 8-bit ones, as its testing does.
        transform = resize_transform(height, width, cfg.INPUT.MIN_SIZE_TRAIN[0], cfg.INPUT.MAX_SIZE_TRAIN, "opencv")
        floats = torch.from_numpy(transform.apply_image(image.astype(np.float32))).permute(2, 0, 1)
        network_input = model.preprocess_image([{"image": floats}]).tensor[0]
        close(network_input[:, ::8, ::8], z[f"{name}/float_input"], 1e-4)


def test_mask_targets(preparation):
    masks = np.unpackbits(preparation["masks/src"]).reshape(-1, 90, 140)
    steps = [OpenCVResizeTransform(90, 140, 64, 100), HFlipTransform(100)]
    for step, name in zip(steps, ("resized", "flipped")):
        masks = np.stack([step.apply_segmentation(mask) for mask in masks])
        assert (np.packbits(masks) == preparation[f"masks/{name}"]).all()
    boxes = torch.from_numpy(preparation["masks/boxes"])
    targets = BitMasks(torch.from_numpy(masks.astype(bool))).crop_and_resize(boxes, 28)
    assert (np.packbits(targets.numpy()) == preparation["masks/target28"]).all()
