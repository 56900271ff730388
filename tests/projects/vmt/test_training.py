import itertools
import math
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, ImageList, Instances

import projects
from projects.vmt.criterion import REFINED_LOSSES
from projects.vmt.training import ABSENT, check_clips, clip_targets, draw, frame_padding
from vis_core.checkpoint import read_checkpoint
from vis_core.config import merge_config
from vis_core.data import build_train_loader, register_shapes
from vis_core.data.shapes import ShapesConfig
from vis_core.engine import VideoTrainer
from vis_core.errors import ConfigError

from detectron2.data import DatasetCatalog  # isort: skip  (importable once vis_core is)

CONFIG = Path(projects.__file__).resolve().parents[1] / "configs" / "vmt" / "shapesvis_tiny.yaml"
DATASET = "vmt_training_shapes"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.SMALL_RESNET.WIDTHS": "[64, 96, 128, 160]",
    "MODEL.SMALL_RESNET.BLOCKS": "[1, 1, 1, 1]",
    "MODEL.VMT.NUM_QUERIES": "8",
    "MODEL.VMT.HIDDEN_DIM": "32",
    "MODEL.VMT.NHEADS": "4",
    "MODEL.VMT.DIM_FEEDFORWARD": "32",
    "MODEL.VMT.ENC_LAYERS": "1",
    "MODEL.VMT.DEC_LAYERS": "2",
    "MODEL.VMT.REFINE_DIM": "16",
    "MODEL.VMT.LOSS.REFINED_CLIPS": "0",
    "MODEL.VMT.LOSS.REFINED_FRAMES": "0",
    "MODEL.VMT.QUADTREE.DIM": "16",
    "MODEL.VMT.QUADTREE.DETECTOR_DIM": "8",
    "MODEL.VMT.QUADTREE.MAX_NODES": "64",
}
LAYER = {"loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice"}
LATER = {"loss_mask_inc", "loss_dice_inc", "loss_mask_refine", "loss_mask_dice_refine", "loss_mask_bound_refine"}
LATER |= {"loss_mask_sem", "loss_mask_sem_dice"}
REFINERS = {"release": set(), "quadtree": {"loss_incoherence", "loss_nodes"}}


def small_config(*options: str):
    return merge_config(projects.default_config(), CONFIG, [*itertools.chain(*SMALL.items()), *options])


def build(refiner: str = "release", *options: str):
    torch.manual_seed(0)
    return build_model(small_config("MODEL.VMT.REFINER", refiner, *options)).train()


def make_clip(frames, size: tuple[int, int] = (48, 64), num_objects: int = 2) -> dict:
    """Moving squares; ``frames`` says which of the objects each frame shows."""
    clip = {"image": [], "instances": [], "height": size[0], "width": size[1]}
    for t, ids in enumerate(frames):
        image, masks = torch.full((3, *size), 40, dtype=torch.uint8), torch.zeros(num_objects, *size, dtype=torch.bool)
        for k in ids:
            y, x = 4 + 12 * k, 6 + 18 * k + 3 * t
            masks[k, y : y + 20, x : x + 18] = True
            image[:, masks[k]] = torch.tensor([[200], [70 + 90 * k], [240 - 100 * k]]).byte()
        instances = Instances(size)
        instances.gt_masks = BitMasks(masks)
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        instances.gt_classes = torch.tensor([k if k in ids else 6 for k in range(num_objects)])
        instances.gt_ids = torch.tensor([10 + k if k in ids else -1 for k in range(num_objects)])
        clip["image"].append(image)
        clip["instances"].append(instances)
    return clip


def step(model, clips) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(clips)
    sum(losses.values()).backward()
    return losses


@pytest.fixture(scope="module", params=REFINERS)
def refiner(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> str:
    if DATASET not in DatasetCatalog.list():
        config = ShapesConfig(num_videos=3, length=4, height=48, width=64, difficulty=0.0, corners="sharp")
        register_shapes(DATASET, config, tmp_path_factory.mktemp("vmt_shapes"))
    return DATASET


def test_a_step_has_all_losses_and_a_gradient_for_every_parameter(refiner):
    model = build(refiner)
    losses = step(model, [make_clip([(0, 1)] * 3), make_clip([(0,), (), (0, 1)])])
    assert set(losses) == LAYER | {f"{name}_0" for name in LAYER} | LATER | REFINERS[refiner]
    assert all(loss.isfinite() for loss in losses.values())
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_gradients_are_the_losses_slope(refiner):
    """Along the gradient the loss falls as steeply as the gradient says.

    Only in what comes last is that so: stages see those before them without passing their gradient on.
    """
    model = build(refiner, "MODEL.VMT.QUADTREE.THRESHOLD", "-1.0", "MODEL.VMT.QUADTREE.MAX_NODES", "100000")
    clips = [make_clip([(0, 1)] * 2)]
    before = sum(step(model, clips).values()).item()
    last = [*model.refiner.parameters(), *model.transformer.class_embed.parameters()]
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in last))
    length = 2e-3
    with torch.no_grad():
        for p in last:
            p -= length / norm * p.grad
    after = sum(step(model, clips).values()).item()
    assert after - before == pytest.approx(-length * norm, rel=0.1)


def test_one_clip_can_be_learned(refiner):
    model = build(refiner)
    clips = [make_clip([(0, 1)] * 2)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        history.append(sum(step(model, clips).values()).item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize("frames", [[(), ()], [(), (0,)], [(0, 1)]])
def test_clips_with_little_to_see(refiner, frames):
    losses = step(build(refiner), [make_clip(frames)])
    assert all(loss.isfinite() for loss in losses.values())
    assert set(losses) >= LAYER


def test_clips_without_objects_have_the_same_losses(refiner):
    """Processes whose losses differ in name cannot add them up."""
    without = ("MODEL.VMT.LOSS.UNION_MASK_WEIGHT", "0.0", "MODEL.VMT.LOSS.NODE_WEIGHT", "0.0")
    full, empty = (step(build(refiner, *without), [make_clip(frames)]) for frames in ([(0, 1)] * 2, [()] * 2))
    assert list(full) == list(empty)
    assert {"loss_mask_sem", "loss_nodes"}.isdisjoint(empty)
    for name in {*REFINED_LOSSES, *REFINERS[refiner]} & set(empty):
        assert empty[name].item() == 0 and empty[name].requires_grad


def test_clips_of_different_size_share_a_batch(refiner):
    model = build(refiner)
    clips = [make_clip([(0, 1)] * 2, size=(60, 50)), make_clip([(0, 1)] * 2, size=(40, 64))]
    losses = step(model, clips)
    assert all(loss.isfinite() for loss in losses.values())


def test_under_autocast(refiner):
    model = build(refiner)
    clips = [make_clip([(0, 1)] * 2)]
    exact = {name: loss.item() for name, loss in step(model, clips).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(model, clips)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32 and loss.isfinite(), name
        assert loss.item() == pytest.approx(exact[name], rel=0.1, abs=0.05), name


def test_some_clips_frames_and_objects_are_refined(monkeypatch):
    limits = ("CLIPS", "1", "FRAMES", "2", "INSTANCES", "1")
    options = [f"MODEL.VMT.LOSS.REFINED_{x}" if i % 2 == 0 else x for i, x in enumerate(limits)]
    model = build("release", *options)
    seen = []
    forward = model.refiner.forward
    monkeypatch.setattr(model.refiner, "forward", lambda *x: seen.append(x[1].shape) or forward(*x))
    losses = step(model, [make_clip([(0, 1)] * 3)] * 2)
    assert seen == [(1, 2, 48, 64)]
    assert losses["loss_mask_refine"].isfinite()


def test_the_refiner_alone_can_be_trained(refiner):
    model = build(refiner, "MODEL.VMT.LOSS.REFINER_ONLY", "True", "MODEL.RESNETS.NORM", "BN")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for clips in ([make_clip([(0, 1)] * 2)], [make_clip([(), ()])]):
        losses = step(model, clips)
        optimizer.step()
        assert {name for name in losses if "refine" not in name and "sem" not in name} <= REFINERS[refiner]
    for name, value in model.state_dict().items():
        assert name.startswith("refiner.") or torch.equal(value, before[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_last_stage_sees_no_padding(monkeypatch):
    model = build()
    seen = []
    forward = model.refiner.forward
    monkeypatch.setattr(model.refiner, "forward", lambda *x: seen.append(x) or forward(*x))
    step(model, [make_clip([(0, 1)] * 2, size=(45, 50)), make_clip([(0,)] * 2, size=(64, 64))])
    (small, labels), (large, _) = seen
    assert small.detail.shape[-2:] == (23, 25) and small.second.shape[-2:] == (12, 13)
    assert small.coarse.shape[-2:] == (6, 7) and small.maps.base.shape[-2:] == (12, 13)
    assert labels.shape == (2, 2, 46, 50)
    assert large.detail.shape[-2:] == (32, 32)
    assert small.references.amax(dim=(0, 1)).le(torch.tensor([50.0, 45.0])).all()


def test_targets_of_a_clip():
    clip = make_clip([(), (1,), (0, 1)], size=(50, 80), num_objects=3)
    targets = clip_targets(clip, (64, 96), 1, torch.device("cpu"))
    assert targets.labels.tolist() == [1, 2]  # the third object is in no frame
    assert targets.masks.shape == (2, 3, 64, 96) and targets.image_size == (50, 80)
    assert targets.boxes[0, 0].tolist() == pytest.approx([ABSENT] * 4)
    left, top, right, bottom = clip["instances"][2].gt_boxes.tensor[0].tolist()
    wanted = [(left + right) / 160, (top + bottom) / 100, (right - left) / 80, (bottom - top) / 50]
    assert targets.boxes[0, 2].tolist() == pytest.approx(wanted)
    assert torch.equal(targets.masks[0, 2, :50, :80], clip["instances"][2].gt_masks.tensor[0])
    assert not targets.masks[:, :, 50:].any() and not targets.masks[:, :, :, 80:].any()


def test_padding_of_frames():
    images = ImageList.from_tensors([torch.zeros(3, 32, 20), torch.zeros(3, 16, 32)])
    padding = frame_padding(images)
    assert padding.shape == (2, 32, 32)
    assert padding[0, :, 20:].all() and not padding[0, :, :20].any() and padding[1, 16:].all()
    assert frame_padding(ImageList.from_tensors([torch.zeros(3, 32, 32)] * 2)) is None


def test_clips_that_cannot_be_trained_on():
    clip = make_clip([(0,), (0,)])
    with pytest.raises(ConfigError, match="clips of"):
        check_clips([clip, make_clip([(0,)])])
    clip["image"][1] = clip["image"][1][:, :40]
    with pytest.raises(ConfigError, match="MIN_SIZE_TRAIN_SAMPLING must end in _by_clip"):
        check_clips([clip])


def test_draw():
    items = torch.arange(10)
    assert torch.equal(draw(items, 0), items) and torch.equal(draw(items, 10), items)
    torch.manual_seed(0)
    drawn = draw(items, 4)
    assert len(drawn) == 4 and drawn.tolist() == sorted({*drawn.tolist()})


def test_some_modules_learn_more_slowly():
    cfg = small_config("SOLVER.LR_MULTIPLIERS", "[['reference_points', 0.1], ['sampling_offsets', 0.1]]")
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.5
    model = build_model(cfg)
    groups = VideoTrainer.build_optimizer(cfg, model).param_groups
    rates = {id(p): group["lr"] / cfg.SOLVER.BASE_LR for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        slow = "reference_points" in name or "sampling_offsets" in name
        wanted = 0.1 if slow else 0.5 if name.startswith("backbone.") else 1.0
        assert rates[id(p)] == pytest.approx(wanted), name


def test_pseudo_clips(shapes):
    """Clips of differently augmented copies of one image, as from COCO."""
    cfg = small_config(
        "DATASETS.TRAIN", f"('{shapes}',)", "INPUT.PSEUDO.IMAGE_MODE", "True", "DATALOADER.NUM_WORKERS", "0",
        "INPUT.PSEUDO.MIN_SIZE_TRAIN", "(32, 48)", "INPUT.PSEUDO.CROP.ENABLED", "True", "SOLVER.IMS_PER_BATCH", "2",
        "INPUT.PSEUDO.CROP.SIZE", "(30, 50)", "INPUT.PSEUDO.CROP.RESIZE_FIRST", "(50,)",
    )  # fmt: skip
    batch = next(iter(build_train_loader(cfg)))
    losses = step(build(), batch)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, shapes):
    def train(folder: Path, resume: bool = False) -> dict[str, torch.Tensor]:
        cfg = small_config(
            "DATASETS.TRAIN", f"('{shapes}',)", "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", "0",
            "INPUT.MIN_SIZE_TRAIN", "(48,)", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2",
            "SOLVER.IMS_PER_BATCH", "1", "MODEL.VMT.LOSS.REFINED_FRAMES", "1", "OUTPUT_DIR", str(folder),
        )  # fmt: skip
        folder.mkdir(exist_ok=True)
        torch.manual_seed(cfg.SEED)
        trainer = VideoTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return read_checkpoint(folder / "model_final.pth")["model"]

    whole = train(tmp_path / "whole")
    part = tmp_path / "part"
    train(part)
    (part / "model_final.pth").unlink()
    (part / "last_checkpoint").write_text("model_0000001.pth")
    before = read_checkpoint(part / "model_0000001.pth")["model"]
    resumed = train(part, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert any(not torch.equal(whole[key], before[key]) for key in whole)
