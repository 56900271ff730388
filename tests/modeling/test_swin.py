"""The Swin backbone, also against timm's."""

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch.nn import functional as F

from vis_core.modeling import D2SwinTransformer, add_mask2former_config
from vis_core.modeling.swin import shift_mask

TINY = dict(dim=8, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8), window=4)


def test_same_as_timm():
    """At a size at which both cut the same windows on all but the last stage (timm shrinks windows that do not fit)."""
    torch.manual_seed(0)
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, embed_dim=16, num_heads=(1, 2, 4, 8), depths=(2, 2, 2, 2)
    ).eval()
    ours = D2SwinTransformer(dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window=7).eval()
    renamed = {}
    for key, value in theirs.state_dict().items():
        key = key.replace("layers_", "layers.")
        if ".downsample." in key:  # timm's come first in the next stage
            stage = int(key.split(".")[1])
            key = key.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        renamed[key] = value
    missing, unexpected = ours.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(key.startswith("norm") or key.endswith("relative_position_index") for key in missing)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for mine, reference in list(zip(ours(image).values(), theirs(image)))[:3]:
            normed = F.layer_norm(reference, reference.shape[-1:]).permute(0, 3, 1, 2)
            torch.testing.assert_close(mine, normed, rtol=0, atol=1e-4)


def test_sizes_that_fit_nothing():
    model = D2SwinTransformer(**TINY).eval()
    with torch.no_grad():
        features = model(torch.randn(2, 3, 45, 70))
    sizes = {name: tuple(x.shape) for name, x in features.items()}
    assert sizes == {"res2": (2, 8, 12, 18), "res3": (2, 16, 6, 9), "res4": (2, 32, 3, 5), "res5": (2, 64, 2, 3)}
    assert {name: (s.channels, s.stride) for name, s in model.output_shape().items()} == {
        f"res{i + 2}": (8 * 2**i, 4 * 2**i) for i in range(4)
    }


def test_images_of_a_batch_do_not_mix():
    model = D2SwinTransformer(**TINY).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images)["res5"][1:], model(images[1:])["res5"], rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_memory_only():
    torch.manual_seed(0)
    model = D2SwinTransformer(**TINY, drop_path_rate=0.5).train()
    image = torch.randn(2, 3, 64, 64)
    grads = []
    for use_checkpoint in (False, True):
        for layer in model.layers:
            layer.use_checkpoint = use_checkpoint
        model.zero_grad()
        torch.manual_seed(1)
        sum(x.square().mean() for x in model(image).values()).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for plain, recomputed in zip(*grads):
        torch.testing.assert_close(plain, recomputed)


def test_blocks_are_dropped_in_training_only():
    torch.manual_seed(0)
    model, image = D2SwinTransformer(**TINY, drop_path_rate=0.9), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model.train()(image)["res5"], model(image)["res5"])
        assert torch.equal(model.eval()(image)["res5"], model(image)["res5"])


def test_only_wanted_features():
    model = D2SwinTransformer(**TINY, out_features=["res3", "res5"])
    assert list(model(torch.randn(1, 3, 32, 32))) == ["res3", "res5"]
    assert {name for name, _ in model.named_children()} == {"patch_embed", "layers", "norm1", "norm3"}


@pytest.mark.parametrize("shift", [1, 2])
def test_shift_mask_separates_what_was_apart(shift):
    """Pixels of one window of the shifted map may see each other if they were neighbours before the shift."""
    height, width, window = 6, 8, 4  # the height is padded to 8
    mask = shift_mask(height, width, window, shift, "cpu").view(2, 2, 16, 16)
    y, x = torch.meshgrid(torch.arange(8).roll(-shift), torch.arange(8).roll(-shift), indexing="ij")
    for row in range(2):
        for column in range(2):
            part = slice(row * 4, row * 4 + 4), slice(column * 4, column * 4 + 4)
            ys, xs = y[part].flatten(), x[part].flatten()
            near = ((ys[:, None] - ys).abs() < window) & ((xs[:, None] - xs).abs() < window)
            assert torch.equal(mask[row, column] == 0, near)


def test_from_config():
    cfg = get_cfg()
    add_mask2former_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS, cfg.MODEL.SWIN.NUM_HEADS = 8, [1, 1, 1, 2], [1, 1, 1, 1]
    model = build_backbone(cfg)
    assert [len(layer.blocks) for layer in model.layers] == [1, 1, 1, 2]
    probabilities = [block.drop_path.p for layer in model.layers for block in layer.blocks]
    assert probabilities == pytest.approx([0, 0.075, 0.15, 0.225, 0.3])
    assert model.layers[3].blocks[1].shift == 3 and model.layers[3].blocks[0].shift == 0
