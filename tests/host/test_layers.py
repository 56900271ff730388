import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import (
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    ROIAlign,
    ShapeSpec,
    batched_nms,
    cat,
    ciou_loss,
    cross_entropy,
    diou_loss,
    get_norm,
    nonzero_tuple,
    paste_masks_in_image,
    shapes_to_tensor,
)
from detectron2.structures import Boxes
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def trained_norm(channels=6, cls=nn.BatchNorm2d):
    torch.manual_seed(0)
    norm = cls(channels, eps=1e-3)
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        value.uniform_(0.5, 1.5)
    return norm.eval()


class TestFrozenBatchNorm:
    def test_a_new_one_is_the_identity(self):
        x = torch.randn(2, 5, 3, 4)
        torch.testing.assert_close(FrozenBatchNorm2d(5)(x), x)

    def test_has_buffers_only(self):
        norm = FrozenBatchNorm2d(5)
        assert not list(norm.parameters())
        assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]

    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_equals_batch_norm_in_eval_mode(self, requires_grad):
        norm = trained_norm()
        x = torch.randn(2, 6, 3, 4, requires_grad=requires_grad)
        frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm)
        torch.testing.assert_close(frozen.train()(x), norm(x))
        assert frozen(x).requires_grad == requires_grad

    def test_half_precision_stays_half(self):
        x = torch.randn(2, 6, 3, 4).to(torch.bfloat16).requires_grad_()
        assert FrozenBatchNorm2d(6)(x).dtype == torch.bfloat16

    @pytest.mark.parametrize("cls", [nn.BatchNorm2d, nn.SyncBatchNorm])
    def test_conversion_there_and_back(self, cls):
        model = nn.Sequential(nn.Conv2d(3, 6, 1), trained_norm(cls=cls), nn.ModuleDict({"n": trained_norm(cls=cls)}))
        before = {k: v.clone() for k, v in model.state_dict().items()}
        frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
        assert frozen is model
        assert [type(model[1]), type(model[2]["n"])] == [FrozenBatchNorm2d] * 2 and model[1].eps == 1e-3
        assert [k for k, _ in model.named_parameters()] == ["0.weight", "0.bias"]
        for k, v in model.state_dict().items():
            assert torch.equal(v, before[k]), k

        back = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model)
        assert type(back[1]) is nn.BatchNorm2d and back[1].weight.requires_grad and back[1].eps == 1e-3
        for k in ("1.weight", "1.bias", "1.running_mean", "2.n.running_var"):
            assert torch.equal(back.state_dict()[k], before[k]), k

    def test_state_of_an_old_version_without_statistics(self):
        norm = FrozenBatchNorm2d(3)
        norm.running_mean.fill_(5)
        incompatible = norm.load_state_dict({"weight": torch.full((3,), 2.0), "bias": torch.ones(3)}, strict=False)
        assert not incompatible.missing_keys
        assert norm.running_mean.tolist() == [0, 0, 0] and norm.running_var.tolist() == [1, 1, 1]

    def test_state_of_this_version_must_be_complete(self):
        norm = FrozenBatchNorm2d(3)
        state = norm.state_dict()
        del state["running_mean"]
        with pytest.raises(RuntimeError, match="running_mean"):
            norm.load_state_dict(state)


class TestGetNorm:
    @pytest.mark.parametrize(
        ("name", "cls"),
        [("BN", nn.BatchNorm2d), ("SyncBN", nn.SyncBatchNorm), ("FrozenBN", FrozenBatchNorm2d), ("GN", nn.GroupNorm)],
    )
    def test_names(self, name, cls):
        assert isinstance(get_norm(name, 64), cls)

    def test_others(self):
        assert get_norm("", 4) is None and get_norm(None, 4) is None
        assert get_norm("GN", 64).num_groups == 32
        assert isinstance(get_norm(nn.InstanceNorm2d, 4), nn.InstanceNorm2d)
        with pytest.raises(KeyError):
            get_norm("Nope", 4)

    def test_layer_norm_is_over_channels(self):
        x = torch.randn(2, 7, 3, 4)
        norm = get_norm("LN", 7)
        y = norm(x)
        assert y.shape == x.shape and norm.eps == 1e-6
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        torch.testing.assert_close(y, (x - mean) / (var + 1e-6).sqrt())


class TestWrappers:
    def test_conv_then_norm_then_activation(self):
        x = torch.randn(2, 3, 8, 8)
        conv = Conv2d(3, 6, 3, padding=1, bias=False, norm=trained_norm(), activation=F.relu)
        expected = F.relu(conv.norm(F.conv2d(x, conv.weight, padding=1)))
        torch.testing.assert_close(conv(x), expected)
        assert "norm.running_mean" in conv.state_dict()
        assert Conv2d(3, 6, 1)(x[:0]).shape == (0, 6, 8, 8)

    def test_cat_does_not_copy_a_sole_tensor(self):
        x = torch.zeros(2, 3)
        assert cat([x]) is x and cat((x, x), dim=1).shape == (2, 6)

    def test_cross_entropy_of_nothing(self):
        logits = torch.zeros(0, 4, requires_grad=True)
        loss = cross_entropy(logits, torch.zeros(0, dtype=torch.int64))
        loss.backward()
        assert loss.item() == 0 and logits.grad.shape == (0, 4)
        assert cross_entropy(logits, torch.zeros(0, dtype=torch.int64), reduction="none").shape == (0,)
        torch.testing.assert_close(cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])), torch.tensor(4.0).log())

    def test_small_ones(self):
        rows, columns = nonzero_tuple(torch.tensor([[0, 1], [2, 0]]))
        assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]
        assert nonzero_tuple(torch.tensor(3))[0].tolist() == [0]
        assert shapes_to_tensor([3, 4]).tolist() == [3, 4]
        assert ShapeSpec(channels=3) == ShapeSpec(3, None, None, None)

    def test_freeze(self):
        class Block(CNNBlockBase):
            def __init__(self):
                super().__init__(3, 4, 2)
                self.conv = Conv2d(3, 4, 3, stride=2, norm=nn.BatchNorm2d(4))

        block = Block()
        assert block.freeze() is block and (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
        assert not any(p.requires_grad for p in block.parameters())
        assert isinstance(block.conv.norm, FrozenBatchNorm2d)


class TestBoxOps:
    def test_nms_within_groups(self):
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
        scores, groups = torch.tensor([0.5, 0.9, 0.7, 0.1]), torch.tensor([0, 0, 1, 0])
        assert batched_nms(boxes, scores, groups, 0.5).tolist() == [1, 2, 3]
        assert batched_nms(boxes.half(), scores, groups, 0.5).tolist() == [1, 2, 3]
        assert batched_nms(boxes[:0], scores[:0], groups[:0], 0.5).tolist() == []

    def test_roi_align_of_a_ramp_gives_bin_centres(self):
        ramp = torch.arange(8.0).add(0.5).view(1, 1, 1, 8).expand(1, 1, 8, 8).contiguous()  # value = x coordinate
        rois = torch.tensor([[0, 1.0, 1, 5, 5]])
        aligned = ROIAlign(4, 1.0, 2)(ramp, rois)
        torch.testing.assert_close(aligned[0, 0, 0], torch.tensor([1.5, 2.5, 3.5, 4.5]))
        shifted = ROIAlign((4, 4), 1.0, 2, aligned=False)(ramp, rois)
        torch.testing.assert_close(shifted, aligned + 0.5)
        assert ROIAlign(4, 1.0, 2)(ramp.bfloat16().float(), rois.double()).dtype == torch.float32
        assert ROIAlign(4, 1.0, 2)(ramp, rois[:0]).shape == (0, 1, 4, 4)

    def test_box_losses(self):
        a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
        # IoU 1/3, squared distance of centres 1, squared diagonal of the hull 13, equal aspect ratios
        torch.testing.assert_close(diou_loss(a, b, reduction="sum"), torch.tensor(1 - 1 / 3 + 1 / 13))
        torch.testing.assert_close(ciou_loss(a, b), torch.tensor([1 - 1 / 3 + 1 / 13]))


def pasted_by_definition(mask: np.ndarray, box: np.ndarray, h: int, w: int) -> np.ndarray:
    """Bilinear value at every pixel centre, zero beyond the mask and from a pixel beyond the box, in float64."""
    s = len(mask)
    padded = np.pad(mask.astype(np.float64), 1)
    out = np.zeros((h, w))
    x0, y0 = np.maximum(np.floor(box[:2]).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(box[2:]).astype(int) + 1, (w, h))
    for y in range(y0, y1):
        for x in range(x0, x1):
            u = (x + 0.5 - box[0]) / (box[2] - box[0]) * s - 0.5
            v = (y + 0.5 - box[1]) / (box[3] - box[1]) * s - 0.5
            if -1 < u < s and -1 < v < s:
                i, j = int(np.floor(v)), int(np.floor(u))
                fv, fu = v - i, u - j
                p = padded[i + 1 : i + 3, j + 1 : j + 3]
                out[y, x] = np.array([1 - fv, fv]) @ p @ np.array([1 - fu, fu])
    return out


class TestPasteMasks:
    BOXES = np.array(
        [[2.3, 3.1, 14.9, 11.2], [-4, -3, 9, 30], [12, 8, 40, 35], [5, 5, 6, 6], [0, 0, 20, 16]], dtype=np.float32
    )

    @pytest.mark.parametrize("device", DEVICES)
    def test_against_the_definition(self, device):
        masks = np.random.RandomState(3).uniform(size=(5, 7, 7)).astype(np.float32)
        on_device = (torch.from_numpy(x).to(device) for x in (masks, self.BOXES))
        pasted = paste_masks_in_image(*on_device, (16, 20), threshold=-1).cpu()
        assert pasted.dtype == torch.uint8
        for got, mask, box in zip(pasted.numpy(), masks, self.BOXES):
            expected = pasted_by_definition(mask, box, 16, 20)
            inside = expected > 0  # a GPU lets values fade out further from the box
            assert np.abs(got - expected * 255)[inside].max() < 1.01  # truncated to an integer
            assert device != "cpu" or not got[~inside].any()

    @pytest.mark.parametrize("device", DEVICES)
    def test_threshold(self, device):
        masks = torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(0))
        boxes = Boxes(torch.from_numpy(self.BOXES).to(device))
        for threshold in (0.5, 0.8):
            pasted = paste_masks_in_image(masks.to(device), boxes, (16, 20), threshold=threshold).cpu()
            assert pasted.dtype == torch.bool and pasted.shape == (5, 16, 20)
            for got, mask, box in zip(pasted.numpy(), masks.numpy(), self.BOXES):
                value = pasted_by_definition(mask, box, 16, 20)
                certain = np.abs(value - threshold) > 1e-4
                np.testing.assert_array_equal(got[certain], (value >= threshold)[certain])

    def test_nothing_to_paste(self):
        assert paste_masks_in_image(torch.zeros(0, 7, 7), torch.zeros(0, 4), (16, 20)).shape == (0, 16, 20)
        assert paste_masks_in_image(torch.zeros(0, 7, 7), torch.zeros(0, 4), (16, 20)).dtype == torch.uint8

    def test_boxes_of_no_area_cover_nothing(self):
        boxes = torch.tensor([[5.0, 5, 5, 9], [2.5, 5, 2.5, 9]])
        assert not paste_masks_in_image(torch.ones(2, 7, 7), boxes, (16, 20)).any()

    def test_bool_masks(self):
        pasted = paste_masks_in_image(torch.ones(1, 7, 7, dtype=torch.bool), torch.tensor([[2.0, 2, 9, 9]]), (16, 20))
        assert pasted.sum() == 49
