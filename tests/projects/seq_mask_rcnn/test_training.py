"""Training on pairs of frames: losses, gradients, what is drawn; a whole run in both stages."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st

import projects
from projects.seq_mask_rcnn import training
from projects.seq_mask_rcnn.losses import soft_iou_loss
from projects.seq_mask_rcnn.schedule import finetune_schedule, main_schedule
from vis_core.checkpoint import read_checkpoint
from vis_core.config import merge_config
from vis_core.data import build_train_loader, register_shapes
from vis_core.data.shapes import ShapesConfig
from vis_core.engine import VideoTrainer

CONFIGS = Path(projects.__file__).resolve().parents[1] / "configs" / "seq_mask_rcnn"
LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask", "loss_prop"}
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.SMALL_RESNET.WIDTHS": "[16, 24, 32, 40]",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": "0",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.PROP_HEAD.KEY_DIM": "8",
    "MODEL.PROP_HEAD.VALUE_DIM": "16",
    "MODEL.ROI_HEADS.NUM_CLASSES": "3",
}
# Norms that do not depend on what else is in the batch.
FIXED_NORMS = ("MODEL.BACKBONE.FREEZE_BN_STATISTICS", "True", "MODEL.FPN.NORM", "")
HEIGHT, WIDTH = 64, 92  # padded to 64 x 96
# A constant added to all keys changes no softmax: its gradient is rounding.
WITHOUT_EFFECT = {"prop_head.atn_key.bias"}


def config(*opts: str, name: str = "shapesvis_tiny.yaml"):
    return merge_config(projects.default_config(), CONFIGS / name, [*itertools.chain(*SMALL.items()), *opts])


def make_model(*opts: str):
    torch.manual_seed(0)
    return build_model(config(*opts)).train()


def make_frame(generator, num_objects, ids, shift):
    """Object k is a bright square at a place of its own."""
    image = torch.randint(0, 60, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(num_objects, HEIGHT, WIDTH, dtype=torch.bool)
    for k in ids:
        y, x = 4 + 6 * k, 4 + 12 * k + shift
        masks[:, y : y + 20, x : x + 14] = False
        masks[k, y : y + 20, x : x + 14] = True
        colour = torch.tensor([200, 80 * (k % 3), 250 - 40 * k]).byte()
        image[:, y : y + 20, x : x + 14] = colour[:, None, None]
    instances = Instances((HEIGHT, WIDTH), gt_masks=BitMasks(masks))
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.arange(num_objects) % 3
    instances.gt_ids = torch.tensor([100 + k if k in ids else -1 for k in range(num_objects)], dtype=torch.int64)
    return image, instances


def make_clip(seed=0, target=(0, 1, 2), reference=(0, 1, 2)):
    generator = torch.Generator().manual_seed(seed)
    num_objects = max([*target, *reference], default=-1) + 1
    frames = [make_frame(generator, num_objects, ids, shift) for ids, shift in ((target, 0), (reference, 3))]
    return {"image": [x for x, _ in frames], "instances": [x for _, x in frames]}


def losses_of(model, clips):
    torch.manual_seed(0)
    model.zero_grad()
    with EventStorage():
        losses = model(clips)
    sum(losses.values()).backward()
    return losses


# ------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("symmetric", ["True", "False"])
@pytest.mark.parametrize(
    ("target", "reference"), [((0, 1, 2), (0, 1, 2)), ((0, 1), ()), ((), (0,)), ((), ()), ((0,), (1,))]
)
def test_every_parameter_gets_a_finite_gradient(symmetric, target, reference):
    model = make_model("MODEL.SEQ_MASK_RCNN.TRAIN.SYMMETRIC", symmetric)
    losses = losses_of(model, [make_clip(0, target, reference), make_clip(1)])
    assert losses.keys() == LOSSES
    assert all(torch.isfinite(loss) for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any() or name in WITHOUT_EFFECT, name


@pytest.mark.parametrize(("target", "reference"), [((0, 1), ()), ((), (0, 1)), ((), ())])
def test_without_a_pair_there_is_no_propagation_loss(target, reference):
    model = make_model()
    losses = losses_of(model, [make_clip(0, target, reference)])
    assert losses["loss_prop"] == 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_the_published_stage_trains():
    """Stem and first stage are fixed; statistics stay, but their norms' weight and bias learn, of the others."""
    model = make_model("MODEL.BACKBONE.FREEZE_AT", "2", *FIXED_NORMS)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses_of(model, [make_clip(0), make_clip(1)])
    optimizer.step()
    changed = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    norms = {name for name in changed if ".norm." in name}
    assert "backbone.bottom_up.res3.0.conv1.norm.weight" in norms and not any("running" in name for name in norms)
    assert not any("stem" in name or "res2" in name for name in changed)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained - WITHOUT_EFFECT <= changed <= trained


def test_the_reference_frame_takes_part_in_propagation_only():
    model = make_model("MODEL.SEQ_MASK_RCNN.TRAIN.SYMMETRIC", "False", *FIXED_NORMS)
    clip = make_clip(0)
    with_reference = losses_of(model, [clip])
    clip["image"][1] = 255 - clip["image"][1]
    clip["instances"][1].gt_boxes.tensor += 1
    other_reference = losses_of(model, [clip])
    for name in LOSSES - {"loss_prop"}:
        assert with_reference[name].item() == pytest.approx(other_reference[name].item(), rel=1e-5)
    assert with_reference["loss_prop"].item() != pytest.approx(other_reference["loss_prop"].item(), rel=1e-5)


def test_symmetric_training_is_the_mean_over_both_directions():
    both = make_model("MODEL.SEQ_MASK_RCNN.TRAIN.SYMMETRIC", "True", *FIXED_NORMS)
    one = make_model("MODEL.SEQ_MASK_RCNN.TRAIN.SYMMETRIC", "False", *FIXED_NORMS)
    one.load_state_dict(both.state_dict())
    clip = make_clip(0, (0, 1, 2), (1, 2))
    turned = {key: value[::-1] for key, value in clip.items()}
    mean = (losses_of(one, [clip])["loss_prop"] + losses_of(one, [turned])["loss_prop"]) / 2
    assert losses_of(both, [clip])["loss_prop"].item() == pytest.approx(mean.item(), rel=1e-5)


def test_every_object_counts_once():
    """Two clips, of one and of three objects: not the mean of the clips' losses."""
    model = make_model("MODEL.SEQ_MASK_RCNN.TRAIN.SYMMETRIC", "False", *FIXED_NORMS)
    clips = [make_clip(0, (0,), (0,)), make_clip(1)]
    alone = [losses_of(model, [clip])["loss_prop"].item() for clip in clips]
    assert losses_of(model, clips)["loss_prop"].item() == pytest.approx((alone[0] + 3 * alone[1]) / 4, rel=1e-4)


def test_the_mask_head_learns_nothing_from_propagation():
    model = make_model()
    model.zero_grad()
    with EventStorage():
        model([make_clip(0)])["loss_prop"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith(("roi_heads", "proposal_generator")) for name in reached)
    of_head = {name for name, _ in model.named_parameters() if name.startswith("prop_head")}
    assert of_head - WITHOUT_EFFECT <= reached
    assert {"backbone.bottom_up.res2.0.conv1.weight", "backbone.fpn_output2.weight"} <= reached


def test_training_learns_a_clip():
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    clips = [make_clip(0), make_clip(1)]
    totals, carried = [], []
    for _ in range(25):
        optimizer.zero_grad()
        with EventStorage():
            losses = model(clips)
        total = sum(losses.values())
        total.backward()
        optimizer.step()
        totals.append(total.item())
        carried.append(losses["loss_prop"].item())
    assert min(totals[-5:]) < 0.6 * totals[0]
    assert min(carried[-5:]) < 0.85 * carried[0]


def test_at_most_so_many_objects_drawn_at_random():
    ids = torch.arange(8)
    target, reference = Instances((4, 4), gt_ids=ids.clone()), Instances((4, 4), gt_ids=ids.clone())
    reference.gt_ids[3] = -1
    drawn = [training.common_rows(target, reference, 5).tolist() for _ in range(60)]
    assert all(len(set(rows)) == 5 and rows == sorted(rows) for rows in drawn)
    assert set().union(*drawn) == {0, 1, 2, 4, 5, 6, 7}
    assert training.common_rows(target, reference, 7).tolist() == [0, 1, 2, 4, 5, 6, 7]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 4))
def test_soft_iou(seed, n):
    generator = torch.Generator().manual_seed(seed)
    p, y = torch.rand(n, 5, 6, generator=generator), torch.rand(n, 5, 6, generator=generator) < 0.4
    expected = []
    for a, b in zip(p.double(), y.double()):
        pairs = list(zip(a.flatten().tolist(), b.flatten().tolist()))
        expected.append(1 - sum(min(x) for x in pairs) / (sum(max(x) for x in pairs) + 1e-6))
    assert soft_iou_loss(p, y).tolist() == pytest.approx(expected, abs=1e-5)
    assert soft_iou_loss(y.float(), y).tolist() == pytest.approx([0.0 if x.any() else 1.0 for x in y], abs=1e-5)


# ------------------------------------------------------------------------------------------------ configs and runs


@pytest.fixture
def shapes(tmp_path):
    name = f"seq_training_{tmp_path.name}"
    register_shapes(name, ShapesConfig(num_videos=4, length=4, height=64, width=96), tmp_path)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def clips(cfg, count):
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
    return [batch[0] for batch in itertools.islice(build_train_loader(cfg), count)]


def test_clips_of_the_finetune_stage(shapes):
    cfg = merge_config(
        projects.default_config(), CONFIGS / "ytvis19_r50_finetune.yaml", ["DATASETS.TRAIN", f"('{shapes}',)"]
    )
    for clip in clips(cfg, 12):
        assert [image.shape for image in clip["image"]] == [(3, 360, 540)] * 2
        target, reference = clip["instances"]
        assert (target.gt_ids >= 0).any()
        shown = [
            {(c, i) for c, i in zip(x.gt_classes.tolist(), x.gt_ids.tolist()) if i >= 0} for x in (target, reference)
        ]
        assert shown[0] & shown[1]
        common = {c for c, _ in shown[0]} & {c for c, _ in shown[1]}
        assert all(pair in shown[1] for pair in shown[0] if pair[0] in common)


@pytest.mark.parametrize("name", ["ytvis19_r50_main.yaml", "shapesvis_tiny_main.yaml"])
def test_clips_of_the_main_stage(shapes, name):
    """One frame as it is, the other turned, in either order."""
    options = [
        "DATASETS.TRAIN",
        f"('{shapes}',)",
        "INPUT.PSEUDO.IMAGE_MODE",
        "True",
        "INPUT.RANDOM_FLIP",
        "flip_by_clip",
    ]
    cfg = merge_config(projects.default_config(), CONFIGS / name, options)
    random.seed(0)
    turned = []
    for clip in clips(cfg, 20):
        assert len({image.shape for image in clip["image"]}) == 1 and len(clip["image"]) == 2
        corners = [
            bool((image[:, :3, :3].float().mean() < 1) | (image[:, -3:, -3:].float().mean() < 1))
            for image in clip["image"]
        ]
        assert not all(corners), "one of them is not turned"
        turned.append(corners)
        assert clip["file_names"][0] == clip["file_names"][1]
    assert any(first for first, _ in turned) and any(second for _, second in turned)


def test_both_stages_from_a_config_file_to_an_evaluation(shapes, tmp_path):
    """What train_net.py does, in seconds: the main stage, the finetune stage from its weights, tube AP, resuming."""

    def run(name, out, *opts, resume=False):
        options = ["DATASETS.TRAIN", f"('{shapes}',)", "DATASETS.TEST", f"('{shapes}',)", "OUTPUT_DIR", str(out)]
        options += ["DATALOADER.NUM_WORKERS", "0", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2"]
        options += [
            "INPUT.MIN_SIZE_TRAIN",
            "(64,)",
            "INPUT.PSEUDO.MIN_SIZE_TRAIN",
            "(64,)",
            "INPUT.MIN_SIZE_TEST",
            "64",
        ]
        cfg = config(*options, "MODEL.ROI_HEADS.NUM_CLASSES", "6", "MODEL.SEQ_MASK_RCNN.KEY_NUM", "2", *opts, name=name)
        Path(out).mkdir(exist_ok=True)
        torch.manual_seed(cfg.SEED)
        trainer = VideoTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer

    run("shapesvis_tiny_main.yaml", tmp_path / "main", "DATASETS.TEST", "()")
    weights = tmp_path / "main" / "model_final.pth"
    trainer = run("shapesvis_tiny.yaml", tmp_path / "fine", "MODEL.WEIGHTS", str(weights))
    assert 0 <= trainer._last_eval_results["segm"]["AP"] <= 100
    start, end = (read_checkpoint(path)["model"] for path in (weights, tmp_path / "fine" / "model_final.pth"))
    assert start.keys() == end.keys()

    # As if it had been killed after the checkpoint of iteration 1.
    again = tmp_path / "again"
    run("shapesvis_tiny.yaml", again, "MODEL.WEIGHTS", str(weights), "DATASETS.TEST", "()")
    (again / "model_final.pth").unlink()
    (again / "last_checkpoint").write_text("model_0000001.pth")
    run("shapesvis_tiny.yaml", again, "DATASETS.TEST", "()", resume=True)
    resumed = read_checkpoint(again / "model_final.pth")["model"]
    assert all(torch.equal(end[key], resumed[key]) for key in end)
    assert any(not torch.equal(end[key], start[key]) for key in end)


def test_schedules():
    keys = main_schedule(num_images=1000, batch_size=8)
    assert keys["MAX_ITER"] == 12 * 125 and keys["STEPS"] == (1000, 1375) and keys["BASE_LR"] == 0.0025
    keys = finetune_schedule(num_frames=101, batch_size=20)
    assert keys["MAX_ITER"] == 24 and keys["STEPS"] == (12,) and "BASE_LR" not in keys


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*_*_finetune.yaml")))
def test_published_finetune_settings(name):
    cfg = merge_config(projects.default_config(), CONFIGS / name)
    davis = name.startswith("davis")
    solver = cfg.SOLVER
    images_per_gpu = {"r50": 5, "r101": 2 if davis else 3, "x101": 1 if davis else 2}[name.split("_")[-2]]
    rate = (5e-4 if davis else 5e-5) * 4 / 6
    assert (pytest.approx(rate), 4 * images_per_gpu) == (solver.BASE_LR, solver.IMS_PER_BATCH)
    assert (solver.MAX_ITER // 2,) == solver.STEPS and 4 * solver.CHECKPOINT_PERIOD == solver.MAX_ITER
    assert (solver.CLIP_GRADIENTS.CLIP_TYPE, solver.CLIP_GRADIENTS.CLIP_VALUE) == ("full_model", 35)
    assert cfg.MODEL.WEIGHTS.endswith("_mainstage.pth")
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.BACKBONE.FREEZE_BN_STATISTICS) == (2, True)
    assert ((480,) if davis else (360,), "pixels") == (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.GT_BOXES)
