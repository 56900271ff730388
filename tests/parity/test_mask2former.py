"""The segmenter against Mask2Former as CTVIS vendors it (fixtures/mask2former).

Tolerances: 5e-4 on logits and masks, as the fixtures' README says; 1e-4 on what comes before them.
"""

import itertools
import json

import numpy as np
import pytest
import torch
from closeness import close
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness, point_sample
from torch.nn import functional as F
from weights import fill

from vis_core.config import add_vis_config
from vis_core.modeling import MSDeformAttn, add_mask2former_config, grid_points
from vis_core.modeling.attention import MLP
from vis_core.modeling.mask2former import MaskCriterion, MaskMatcher, MaskTargets, sine_positional_encoding
from vis_core.modeling.mask2former.criterion import dice_loss, mask_loss
from vis_core.modeling.mask2former.matcher import pairwise_bce, pairwise_dice
from vis_core.ops import ms_deform_attn

FEATURES, LOGITS = 1e-4, 5e-4
SWIN_L = {"EMBED_DIM": 192, "DEPTHS": [2, 2, 18, 2], "NUM_HEADS": [6, 12, 24, 48], "WINDOW_SIZE": 12}


def config(variant: str, num_classes: int):
    """Config of the published model, "r50" or "swinl"."""
    cfg = get_cfg()
    add_vis_config(cfg)
    add_mask2former_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if variant == "swinl":
        cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
        cfg.MODEL.SWIN.merge_from_other_cfg(type(cfg)(SWIN_L))
        cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 200
    else:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    return cfg


def filled(key: str, shape) -> torch.Tensor:
    """The common fill with the README's deviation B."""
    value = torch.from_numpy(np.array(fill(key, shape)))
    if key.endswith(("predictor.query_feat.weight", "predictor.query_embed.weight")):
        value *= 16
    elif ".predictor.transformer_" in key and key.endswith("out_proj.weight"):
        value *= 0.2
    elif key.endswith("predictor.class_embed.weight"):
        value *= 8
    elif key.endswith("predictor.class_embed.bias"):
        value[-1] += 10
    return value


def blocks(seed: int, height: int, width: int) -> torch.Tensor:
    """The README's image, (3, H, W) uint8 RGB."""
    small = np.random.RandomState(seed).randint(0, 256, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
    image = small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def scripted_rand(monkeypatch, base: int) -> list[list[int]]:
    """Replace torch.rand by the README's numbers; returns the shapes asked for."""
    calls, counter = [], itertools.count(base)

    def rand(*shape, device=None):
        calls.append(list(shape))
        return torch.from_numpy(np.random.RandomState(next(counter)).random_sample(shape).astype(np.float32))

    monkeypatch.setattr(torch, "rand", rand)
    return calls


@pytest.fixture(scope="module")
def fixtures(fixtures_root):
    return fixtures_root / "mask2former"


@pytest.mark.parametrize("case", ["c1", "c2"])
def test_op(fixtures, case):
    z = np.load(fixtures / "msda.npz")
    names = ("value", "loc", "attn")
    shapes = z[f"{case}_shapes"].tolist()
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 6e-6)):
        leaves = [torch.from_numpy(z[f"{case}_{name}"]).to(dtype).requires_grad_() for name in names]
        out = ms_deform_attn(leaves[0], shapes, *leaves[1:])
        close(out.detach(), z[f"{case}_out_f64"], tolerance)
        grads = torch.autograd.grad(out, leaves, torch.from_numpy(z[f"{case}_grad_out"]).to(dtype))
        for name, grad in zip(names, grads):
            theirs = z[f"{case}_grad_{name}_f64"]
            close(grad, theirs, tolerance * max(1, np.abs(theirs).max()))


@torch.no_grad()
def test_deformable_attention_layer(fixtures):
    z = np.load(fixtures / "msda.npz")
    layer, shapes = MSDeformAttn(64, 3, 8, 4), z["module_shapes"].tolist()
    close(layer.sampling_offsets.bias, z["module_init_sampling_offsets_bias"], 1e-6)
    layer.load_state_dict({k: torch.from_numpy(np.array(fill(k, v.shape))) for k, v in layer.state_dict().items()})
    num_tokens = sum(h * w for h, w in shapes)
    rs = np.random.RandomState(int(z["module_seed"]))
    query, source = (torch.from_numpy(rs.standard_normal((2, num_tokens, 64)).astype(np.float32)) for _ in range(2))
    close(query[0, :2, :8], z["module_query_head"], 0)
    close(source[0, :2, :8], z["module_src_head"], 0)
    points = grid_points(shapes)
    close(points, z["module_ref_points"], 1e-6)
    close(layer(query, points[None, :, None], source, shapes), z["module_out_from_f64"], 1e-5)


@pytest.mark.parametrize("variant", ["r50", "swinl"])
def test_published_keys(fixtures, variant):
    published = json.loads((fixtures / f"keys_coco_instance_{variant}.json").read_text())
    ours = build_model(config(variant, num_classes=80)).state_dict()
    assert {key: list(value.shape) for key, value in ours.items()} == published


@torch.no_grad()
@pytest.mark.parametrize("variant", ["r50", "swinl"])
def test_segmenter(fixtures, variant, double_precision):
    z = np.load(fixtures / f"segmenter_{variant}.npz")
    seed, height, width = z["image_seed"].tolist()
    model = build_model(config(variant, num_classes=z["pred_logits"].shape[-1] - 1)).eval()
    model.load_state_dict(
        {
            key: filled(key, value.shape) if value.is_floating_point() and key != "criterion.empty_weight" else value
            for key, value in model.state_dict().items()
        }
    )
    image = blocks(seed, height, width)
    close(image.permute(1, 2, 0)[:3, :15:5], z["image_head"], 0)

    seen = {}
    head = model.sem_seg_head
    watched = {f"srcproj{i}": module for i, module in enumerate(head.pixel_decoder.input_proj)}
    watched |= {f"enc{i}": module for i, module in enumerate(head.pixel_decoder.transformer.encoder["layers"])}
    watched |= {f"xattn{i}": module for i, module in enumerate(head.predictor.transformer_cross_attention_layers)}
    watched |= {f"sattn{i}": module for i, module in enumerate(head.predictor.transformer_self_attention_layers)}
    watched |= {f"ffn{i}": module for i, module in enumerate(head.predictor.transformer_ffn_layers)}
    for name, module in watched.items():
        module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out, f"{name}_in": args}))

    images = model.preprocess_images([image])
    assert images.tensor.dtype == torch.float64
    features = model.backbone(images.tensor)
    mask_features, maps = head.pixel_decoder(features)
    outputs = head.predictor(maps, mask_features, with_aux=True)
    seen |= {"norm_input": images.tensor, "mask_features": mask_features} | features
    seen |= {f"ms{i}": x for i, x in enumerate(maps)}
    seen |= {name: outputs[name] for name in ("pred_logits", "pred_masks", "pred_queries")}
    for i, aux in enumerate(outputs["aux_outputs"]):
        seen |= {f"aux{i}_logits": aux["pred_logits"], f"aux{i}_masks": aux["pred_masks"]}
    # CTVIS's re-identification head, whose results the file holds too.
    prefix = "sem_seg_head.predictor.reid_embed."
    reid = MLP(256, 256, 256, 3)
    reid.load_state_dict({key: filled(prefix + key, value.shape) for key, value in reid.state_dict().items()})
    seen["pred_embeds"] = reid(outputs["pred_queries"])

    close(seen["norm_input"][0, :, :4, :4], z["norm_input"], 1e-6)
    close(seen["norm_input"][0, :, -4:, -4:], z["norm_input_corner"], 0)
    parts = {name: (seen[name][0, :16, :3, :4], FEATURES) for name in features}
    parts |= {name: (seen[name][0, :32, :3, :4], FEATURES) for name in ("mask_features", "ms0", "ms1", "ms2")}
    parts |= {name: (seen[name][0, :16, :2, :3], FEATURES) for name in watched if name.startswith("srcproj")}
    parts |= {name: (seen[name][0, ::37, :16], FEATURES) for name in watched if name.startswith("enc")}
    parts |= {name: (seen[name][0, ::25, :16], FEATURES) for name in watched if name.startswith(("x", "sa", "f"))}
    for i in range(len(outputs["aux_outputs"])):
        parts[f"aux{i}_logits"] = seen[f"aux{i}_logits"][0, ::20], LOGITS
        parts[f"aux{i}_masks"] = seen[f"aux{i}_masks"][0, ::25, ::4, ::4], LOGITS
    parts["pred_logits"] = seen["pred_logits"][0], LOGITS
    parts["pred_masks"] = seen["pred_masks"][0, :6], LOGITS
    parts["pred_embeds"] = seen["pred_embeds"][0, ::5], FEATURES
    parts["pred_queries"] = seen["pred_queries"][0, ::20, :32], FEATURES
    assert set(parts) == {name.removesuffix("_stat") for name in z if f"{name}_stat" in z} - {"pos_enc_level2"}
    for name, (part, tolerance) in parts.items():
        close(part, z[name], tolerance)
        whole = seen[name].double()
        close([whole.mean(), whole.std(), whole.abs().max()], z[f"{name}_stat"], tolerance)
    masks, embeds = seen["pred_masks"][0].double().flatten(1), seen["pred_embeds"][0].double()
    close(torch.stack([masks.mean(1), masks.std(1)], dim=1), z["pred_masks_per_query"][:, :2], LOGITS)
    area = z["pred_masks_per_query"][:, 2]
    assert ((masks > LOGITS).double().mean(1).numpy() <= area + 1e-6).all()
    assert ((masks > -LOGITS).double().mean(1).numpy() >= area - 1e-6).all()
    close(torch.stack([embeds.mean(1), embeds.norm(dim=1)], dim=1), z["pred_embeds_per_query"], LOGITS)

    # Logits within the tolerance of 0 may fall on either side.
    num_heads = head.predictor.transformer_cross_attention_layers[0].multihead_attn.num_heads
    for i, aux in enumerate(outputs["aux_outputs"]):
        steering = F.interpolate(aux["pred_masks"], size=maps[i % 3].shape[-2:], mode="bilinear", align_corners=False)
        steering = steering.flatten(2)
        num_empty = z["attn_all_masked_rows"][i]
        assert (steering < -LOGITS).all(dim=-1).sum() <= num_empty <= (steering < LOGITS).all(dim=-1).sum()
        if num_empty == (steering < 0).all(dim=-1).sum():
            blocked = (~seen[f"xattn{i}_in"][4]).sum()
            doubtful = (steering.abs() < LOGITS).sum()
            assert abs(blocked - z["attn_masked_true_count"][i] / num_heads) <= doubtful

    close(sine_positional_encoding(*maps[0].shape[-2:], 256), z["pos_enc_level0"], 1e-5)
    code = sine_positional_encoding(*maps[2].shape[-2:], 256)
    close(code[::8, ::3, ::5], z["pos_enc_level2"], 1e-5)
    close([code.mean(), code.std(), code.abs().max()], z["pos_enc_level2_stat"], 1e-5)

    shortcut = head(features)  # masks before the end only as large as they are needed
    close(shortcut["pred_logits"], outputs["pred_logits"], LOGITS)
    close(shortcut["pred_masks"], outputs["pred_masks"], LOGITS)


def criterion_case(fixtures, name: str):
    expected = json.loads((fixtures / "criterion.json").read_text())[name]
    z = np.load(fixtures / "criterion.npz")
    num_layers = sum(f"{name}_logits{layer}" in z for layer in range(99))
    predictions = [
        {
            "pred_logits": torch.from_numpy(z[f"{name}_logits{layer}"]).requires_grad_(),
            "pred_masks": torch.from_numpy(z[f"{name}_masks{layer}"]).float().requires_grad_(),
        }
        for layer in range(num_layers)
    ]
    targets = []
    for i in range(len(expected["counts"])):
        masks = np.unpackbits(z[f"{name}_gt_masks{i}"], axis=-1)[..., : expected["gt_size"][1]].astype(bool)
        targets.append(MaskTargets(torch.from_numpy(z[f"{name}_gt_labels{i}"]), torch.from_numpy(masks)))
    outputs = predictions[-1] | {"aux_outputs": predictions[:-1]}
    return z, expected, predictions, outputs, targets


@pytest.mark.parametrize("name", ["A", "zero"])
def test_criterion(fixtures, name, monkeypatch):
    z, expected, predictions, outputs, targets = criterion_case(fixtures, name)
    matcher = MaskMatcher(num_points=expected["num_points"])
    criterion = MaskCriterion(num_classes=expected["K"], matcher=matcher, num_points=expected["num_points"])
    matches = []

    def recorded(outputs, targets):
        matches.append(matcher(outputs, targets))
        return matches[-1]

    criterion.matcher = recorded
    calls = scripted_rand(monkeypatch, expected["rand_base"])
    losses, last = criterion(outputs, targets)
    assert calls == expected["rand_calls"]
    assert last is matches[0]
    got = [[[side.tolist() for side in match] for match in batch] for batch in matches]
    assert got == expected["indices_in_call_order"]
    weights = {"ce": 2.0, "mask": 5.0, "dice": 5.0}
    assert losses.keys() == expected["losses_unweighted"].keys()
    for key, loss in losses.items():
        close(loss.detach() / weights[key.split("_")[1]], expected["losses_unweighted"][key], 1e-5)
    total = sum(losses.values())
    close(total.detach(), expected["total_weighted"], 1e-4)
    total.backward()
    for layer, prediction in enumerate(predictions):
        close(prediction["pred_logits"].grad, z[f"{name}_grad_logits{layer}"], 1e-5)
        grad = prediction["pred_masks"].grad
        close([grad.abs().sum(), grad.sum(), (grad != 0).sum()], z[f"{name}_grad_masks{layer}_stat"], 1e-4)
        close(grad[0, :, ::4, ::4], z[f"{name}_grad_masks{layer}_img0"], 1e-5)


def test_formulas(fixtures, monkeypatch):
    z = np.load(fixtures / "criterion.npz")
    tensors = {key: torch.from_numpy(z[key]) for key in z if key.startswith("f_")}
    logits, labels = tensors["f_logits"], tensors["f_labels"]
    close(pairwise_dice(logits, labels), z["f_cost_dice"], 1e-6)
    close(pairwise_bce(logits, labels), z["f_cost_ce"], 1e-6)
    ours = [f(logits[: len(labels)], labels, 2.5) for f in (dice_loss, mask_loss)]
    close(ours, z["f_loss_dice_mask_num_masks_2.5"], 1e-6)
    close(point_sample(tensors["f_ps_in"], tensors["f_ps_pts"], align_corners=False), z["f_ps_out"], 1e-6)
    expected = json.loads((fixtures / "criterion.json").read_text())["uncertain"]
    calls = scripted_rand(monkeypatch, expected["rand_base"])
    points = get_uncertain_point_coords_with_randomness(
        tensors["f_ps_in"], lambda x: -x.abs(), expected["num_points"], 3.0, 0.75
    )
    assert calls == expected["rand_calls"]
    close(points, z["f_unc_out"], 1e-6)
