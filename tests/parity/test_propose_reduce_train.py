"""Training of Seq Mask R-CNN against the released code (train* of fixtures/propose_reduce).

Choices (usable and reference frames, assignments, targets) are exact; boxes 1e-4 px, losses 1e-4 relative, soft masks
1e-4, logits 2e-3 (they are clamped at 16, where float32 itself is coarse), gradient norms 2e-4 relative (ours are the
same in float64; the stored ones were added up in float32).
"""

import json

import numpy as np
import pytest
import torch
from closeness import close
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.solver import build_lr_scheduler
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.nn import smooth_l1_loss
from PIL import Image
from weights import fill

import projects
from projects.seq_mask_rcnn import training
from projects.seq_mask_rcnn.losses import soft_iou_loss
from vis_core.checkpoint import find_converter, rename_mask_rcnn
from vis_core.config import merge_config
from vis_core.data import VideoClipMapper, load_ytvis_json
from vis_core.data.filtering import annotated_frames, usable_objects
from vis_core.data.references import shared_reference_frames
from vis_core.modeling import visible
from vis_core.modeling.mmdet_legacy import PixelMasks
from vis_core.tracking import pairwise_iou

CONFIG = "configs/seq_mask_rcnn/ytvis19_r50_finetune.yaml"


def drawn_clip(seed: int, num_frames: int, height: int, width: int) -> np.ndarray:
    """The README's frames (T, H, W, 3) uint8, BGR."""
    rs = np.random.RandomState(seed)
    background = rs.randint(40, 160, (-(-height // 8), -(-width // 8), 3))
    background = background.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    objects = []
    for _ in range(3):
        cx, cy = rs.randint(width // 5, 4 * width // 5), rs.randint(height // 5, 4 * height // 5)
        rx, ry = rs.randint(width // 12, width // 5), rs.randint(height // 12, height // 4)
        vx, vy = rs.randint(-4, 5), rs.randint(-3, 4)
        objects.append((cx, cy, rx, ry, vx, vy, rs.randint(0, 256, 3)))
    rows, columns = np.mgrid[:height, :width]
    frames = []
    for t in range(num_frames):
        frame = np.roll(background, t, axis=1).copy()
        for cx, cy, rx, ry, vx, vy, colour in objects:
            x, y = columns - cx - vx * t, rows - cy - vy * t
            inside = x**2 * ry**2 + y**2 * rx**2 <= (rx * ry) ** 2
            pattern = 40 * ((x // 4 + y // 4) % 2)
            frame[inside] = ((colour + pattern[..., None]) % 256)[inside]
        frames.append(np.clip(frame + rs.randint(0, 8, frame.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


@pytest.fixture(scope="module")
def folder(fixtures_root):
    return fixtures_root / "propose_reduce"


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "train.json").read_text())


@pytest.fixture(scope="module")
def arrays(folder):
    return np.load(folder / "train.npz")


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
    """The json's videos, with frames drawn by the README's recipe and saved without loss."""
    image_root = tmp_path_factory.mktemp("frames")
    records = load_ytvis_json(folder / "train_ann.json", image_root)
    for record in records:
        frames = drawn_clip(40 + record["video_id"], record["length"], record["height"], record["width"])
        for name, frame in zip(record["file_names"], frames):
            (image_root / f"v{record['video_id']}").mkdir(exist_ok=True)
            Image.fromarray(frame[..., ::-1]).save(name)
    return records


@pytest.fixture(scope="module")
def cfg(facts):
    height, width, _ = facts["sample"]["img_shape"]
    sizes = ["INPUT.MIN_SIZE_TRAIN", f"({min(height, width)},)", "INPUT.MAX_SIZE_TRAIN", str(max(150, width))]
    opts = ["MODEL.DEVICE", "cpu", "INPUT.RANDOM_FLIP", "none", *sizes]
    root = projects.__path__[0].rsplit("/", 1)[0]
    return merge_config(projects.default_config(), f"{root}/{CONFIG}", opts)


@pytest.fixture(scope="module")
def published(folder):
    """{published name: shape}"""
    names = json.loads((folder / "keys_r50.json").read_text())
    return {key: shape for key, shape in names.items() if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def model(cfg, published):
    model = build_model(cfg)
    weights = {key: torch.from_numpy(np.array(fill(key, shape))) for key, shape in published.items()}
    weights["prop_head.enc_pos.weight"] *= 20
    model.load_state_dict(find_converter(weights.keys()).convert(weights), strict=True)
    return model.train()


@pytest.fixture(scope="module")
def clip(cfg, records, facts):
    """Target and reference frame of the json's sample."""
    sample = facts["sample"]
    mapper = VideoClipMapper.from_config(cfg, num_classes=3)
    mapper.sampling = lambda *args: [sample["frame"], sample["ref_frame"]]
    return mapper(records[sample["video_index"]], sample["frame"])


@pytest.fixture(scope="module")
def targets(clip):
    return visible(clip["instances"][0])


# ------------------------------------------------------------------------------------------------ data


def test_usable_and_reference_frames(records, facts):
    ours = [[v, t] for v, record in enumerate(records) for t in annotated_frames(record)]
    assert ours == facts["img_ids (video index, frame) with at least one object"]
    for key, theirs in facts["valid reference frames"].items():
        video, frame = map(int, key.split(","))
        assert shared_reference_frames(records[video], frame) == theirs, key


def test_objects_of_frames(records, facts):
    for key, theirs in facts["parsed"].items():
        video, frame = map(int, key.split(","))
        objects = usable_objects(records[video], frame)
        assert [obj["id"] for obj in objects] == theirs["obj_ids"]
        assert [obj["category_id"] + 1 for obj in objects] == theirs["labels"]
        for (x, y, w, h), box in zip([obj["bbox"] for obj in objects], theirs["bboxes"]):
            assert [x, y, x + w - 1, y + h - 1] == box


def test_sample(clip, targets, facts):
    sample = facts["sample"]
    target, reference = clip["instances"]
    assert list(clip["image"][0].shape[1:]) == sample["img_shape"][:2]
    assert (targets.gt_classes + 1).tolist() == sample["gt_labels"]
    close(inclusive(targets.gt_boxes.tensor), sample["gt_bboxes"], 1e-4)
    assert targets.gt_masks.tensor.sum(dim=(1, 2)).tolist() == sample["gt_mask_area_after_resize"]

    rows = training.common_rows(target, reference, 5)
    assert len(rows) == len(sample["prop_gt_pids"])
    close(inclusive(reference.gt_boxes.tensor[rows]), sample["prop_ref_bboxes"], 1e-4)
    assert (target.gt_classes[rows] + 1).tolist() == sample["prop_ref_labels"]
    assert target.gt_ids[rows].tolist() == reference.gt_ids[rows].tolist()


def inclusive(boxes: torch.Tensor) -> np.ndarray:
    return (boxes - torch.tensor([0, 0, 1, 1])).numpy()


def exclusive(boxes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(boxes + np.array([0, 0, 1, 1], np.float32))


# ------------------------------------------------------------------------------------------------ propagation


def test_propagation(model, published, clip, facts, arrays, monkeypatch):
    """Soft masks of the reference frame, the propagated masks, the loss and where its gradient goes."""
    seen = {}

    def recorded(name, function):
        def wrapped(*args, **kwargs):
            seen[name] = function(*args, **kwargs)
            return seen[name]

        monkeypatch.setattr(training, name, wrapped)

    recorded("predicted_masks", training.predicted_masks)
    recorded("soft_aggregate", training.soft_aggregate)
    monkeypatch.setattr(training, "detector_losses", lambda *args: {})
    model.zero_grad()
    losses = training.losses(model, [clip])
    assert list(losses) == ["loss_prop"]
    losses["loss_prop"].backward()

    close(seen["predicted_masks"][:, ::3, ::3], arrays["ref_masks_soft"], 1e-4)
    np.testing.assert_allclose(seen["predicted_masks"].sum(dim=(1, 2)), arrays["ref_masks_soft_sum"], rtol=1e-4)
    logits, probabilities = (x.detach() for x in seen["soft_aggregate"])
    close(logits[None, :, ::6, ::6], arrays["prop_logit"], 2e-3)
    np.testing.assert_allclose(probabilities.sum(dim=(1, 2)), arrays["prop_prob_sum"], rtol=1e-4)
    assert losses["loss_prop"].item() == pytest.approx(arrays["loss_prop"].item(), rel=1e-4)

    gradients = {name: p.grad for name, p in model.named_parameters()}
    for key, theirs in facts["grad_l2 of loss_prop"].items():
        norm = gradients[rename_mask_rcnn(key)].double().norm().item()
        assert norm == pytest.approx(theirs, rel=2e-4, abs=1e-7), key
    without = {name for name, grad in gradients.items() if grad is None or not grad.any()}
    for group in facts["params without grad from loss_prop"]:
        ours = {
            name for key in published if key.startswith(f"{group}.") and (name := rename_mask_rcnn(key)) in gradients
        }
        with_gradient = {rename_mask_rcnn(key) for key in facts["grad_l2 of loss_prop"] if key.startswith(f"{group}.")}
        # A listed group has members without gradient, all unless others are listed as having one.
        assert ours & without if with_gradient else ours <= without, group
    frozen = {
        rename_mask_rcnn(key) for group in facts["requires_grad False"] for key in published if f"{group}." in key
    }
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name not in frozen), name


def test_soft_iou(arrays):
    ours = soft_iou_loss(torch.from_numpy(arrays["iou_pred"])[None], torch.from_numpy(arrays["iou_label"])[None])
    assert ours.item() == pytest.approx(arrays["iou_loss"].item(), rel=1e-5)
    rows = soft_iou_loss(
        torch.from_numpy(arrays["iou_pred"]).repeat(2, 1, 1), torch.from_numpy(arrays["iou_label"]).repeat(2, 1, 1)
    )
    assert rows.tolist() == pytest.approx([arrays["iou_loss"].item()] * 2, rel=1e-5)


# ------------------------------------------------------------------------------------------------ detection


def test_assignment_of_proposals(model, targets, arrays):
    boxes = exclusive(arrays["assign_boxes"])
    overlaps = pairwise_iou(targets.gt_boxes.tensor, boxes)
    close(overlaps.max(dim=0).values, arrays["assign_rcnn_max_iou"], 1e-6)
    close(overlaps.max(dim=0).values, arrays["assign_rpn_max_iou"], 1e-6)
    for matcher, name in ((model.proposal_generator.anchor_matcher, "rpn"), (model.roi_heads.proposal_matcher, "rcnn")):
        matches, labels = matcher(overlaps)
        ours = torch.where(labels == 1, matches + 1, labels.long())
        assert ours.tolist() == arrays[f"assign_{name}_gt_inds"].tolist(), name

    positive = torch.from_numpy(arrays["rcnn_pos"])
    assert (labels == 1).nonzero()[:, 0].tolist() == positive.tolist()
    assert (targets.gt_classes[matches[positive]] + 1).tolist() == arrays["rcnn_labels"][: len(positive)].tolist()
    transform = model.roi_heads.box_predictor.box2box_transform
    deltas = transform.get_deltas(boxes[positive], targets.gt_boxes.tensor[matches[positive]])
    close(deltas, arrays["rcnn_bbox_targets"], 1e-5)

    masks = PixelMasks(targets.gt_masks.tensor)[matches[positive]]
    shape = arrays["mask_targets_shape"]
    ours = masks.crop_and_resize(boxes[positive], int(shape[1]))
    theirs = np.unpackbits(arrays["mask_targets_bits"], count=int(np.prod(shape))).reshape(shape)
    assert (ours.numpy() == theirs).all()


def test_objects_own_boxes_are_always_trained_on(model, targets):
    """However many better proposals there are."""
    near = targets.gt_boxes.tensor[:1].repeat(300, 1) + torch.linspace(0.01, 1, 300)[:, None]
    proposals = Instances(targets.image_size, proposal_boxes=Boxes(near), objectness_logits=torch.ones(300))
    with EventStorage():
        (chosen,) = model.roi_heads.label_and_sample_proposals([proposals], [targets])
    boxes = chosen.proposal_boxes.tensor
    assert all((boxes == own).all(dim=1).sum() == 1 for own in targets.gt_boxes.tensor)
    assert (chosen.gt_classes < model.roi_heads.num_classes).sum() <= 32 + len(targets)
    assert isinstance(chosen.gt_masks, PixelMasks)


def test_anchors(model, targets, facts, arrays):
    height, width, _ = facts["sample"]["pad_shape"]
    maps = [torch.zeros(1, 1, -(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32, 64)]
    rpn = model.proposal_generator
    anchors = Boxes.cat(rpn.anchor_generator(maps))
    inside = rpn._reach_out_at_most(anchors.tensor, targets.image_size)
    matches, labels = rpn.anchor_matcher(pairwise_iou(targets.gt_boxes.tensor, anchors.tensor[inside]))
    counts = [len(anchors), int(inside.sum()), *(int((labels == label).sum()) for label in (1, 0, -1))]
    assert counts == arrays["rpn_anchor_count"].tolist()
    positive = inside.nonzero()[:, 0][labels == 1]
    assert positive.tolist() == arrays["rpn_pos_anchor_index"].tolist()
    assert (matches[labels == 1] + 1).tolist() == arrays["rpn_pos_gt"].tolist()

    (chosen,), (boxes,) = rpn.label_and_sample_anchors([anchors], [targets])
    assert set((chosen == 1).nonzero()[:, 0].tolist()) <= set(positive.tolist())
    assert (chosen >= 0).sum() == rpn.batch_size_per_image and inside[chosen >= 0].all()
    close(boxes[positive], targets.gt_boxes.tensor[matches[labels == 1]], 0)


def test_loss_values(model, arrays, monkeypatch):
    """Smooth L1 of both stages, cross entropy and mask loss of given numbers."""
    predicted, target, weight = (torch.from_numpy(arrays[f"sl1_{name}"]) for name in ("pred", "target", "weight"))
    assert (weight.min(dim=1).values == weight.max(dim=1).values).all()
    rows = weight[:, 0] > 0  # as for positives and negatives
    rpn, box_predictor = model.proposal_generator, model.roi_heads.box_predictor
    for part, name in ((rpn, "sl1_rpn(beta=1/9, avg=10)"), (box_predictor, "sl1_rcnn(beta=1, avg=10)")):
        assert part.box_reg_loss_type == "smooth_l1"
        loss = smooth_l1_loss(predicted[rows], target[rows], beta=part.smooth_l1_beta, reduction="sum") / 10
        assert loss.item() == pytest.approx(arrays[name].item(), rel=1e-5), name

    logits, labels = torch.from_numpy(arrays["ce_logits"]), torch.from_numpy(arrays["ce_labels"])
    background_last = torch.cat([logits[:, 1:], logits[:, :1]], dim=1)
    classes = torch.where(labels == 0, logits.shape[1] - 1, labels - 1)
    monkeypatch.setattr(box_predictor, "num_classes", logits.shape[1] - 1)
    boxes = Boxes(torch.tensor([[1.0, 1.0, 5.0, 5.0]]).repeat(len(labels), 1))
    proposals = Instances((9, 9), proposal_boxes=boxes, gt_boxes=boxes, gt_classes=classes)
    deltas = torch.zeros(len(labels), 4 * (logits.shape[1] - 1))
    with EventStorage():
        losses = box_predictor.losses((background_last, deltas), [proposals])
        assert losses["loss_cls"].item() == pytest.approx(arrays["ce_rcnn"].item(), rel=1e-5)

        class Given:
            """Targets that need no cropping."""

            def crop_and_resize(self, boxes, side):
                return torch.from_numpy(arrays["mask_target"]) > 0.5

            def __len__(self):
                return len(arrays["mask_target"])

        labels = torch.from_numpy(arrays["mask_label"])
        mask_logits = torch.from_numpy(arrays["mask_logits"])
        instances = Instances((9, 9), proposal_boxes=boxes[: len(labels)], gt_classes=labels - 1)
        instances.gt_masks = Given()
        loss = mask_rcnn_loss(mask_logits[:, 1:], [instances])
    assert loss.item() == pytest.approx(arrays["mask_bce"].item(), rel=1e-5)


def test_learning_rate(cfg, facts):
    (name,) = (key for key in facts if key.startswith("lr ("))
    per_epoch = int(name.removeprefix("lr (").split()[0])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    # The config's own milestone is that of YouTube-VIS 2019: half of its iterations, of 4 epochs.
    assert cfg.SOLVER.STEPS == (cfg.SOLVER.MAX_ITER // 2,)
    cfg = cfg.clone()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 4 * per_epoch, (2 * per_epoch,)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(4 * per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    for key, theirs in facts[name].items():
        assert rates[int(key.split()[-1])] == pytest.approx(theirs, rel=1e-6), key
