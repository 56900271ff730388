import pytest
import torch
from torch.nn import functional as F

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.modeling.mask_resizing import resize_masks, resized_in_chunks

SIZE = (31, 40)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(5, 16, 24, generator=torch.Generator().manual_seed(0))


def bilinear(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def test_padding_is_cut_off_between_two_steps(logits):
    padded = bilinear(logits[None], (64, 96))[..., :50, :75]
    assert resize_masks(logits[None], (64, 96), (50, 75), SIZE).equal(bilinear(padded, SIZE))
    assert resize_masks(logits[None], (64, 96), (50, 75), (50, 75)).equal(padded)


def test_one_size_is_one_step(logits):
    assert resize_masks(logits[None], SIZE, SIZE, SIZE).equal(bilinear(logits[None], SIZE))


@pytest.mark.parametrize("pixels", [1, 2 * SIZE[0] * SIZE[1], 2**22])
def test_chunks(logits, pixels, monkeypatch):
    monkeypatch.setattr("vis_core.modeling.mask_resizing.CHUNK_PIXELS", pixels)
    whole = resize_masks(logits[None], (64, 96), (50, 75), SIZE)[0]
    parts, chunks = zip(*resized_in_chunks(logits.half(), (64, 96), (50, 75), SIZE))
    assert [row for part in parts for row in range(5)[part]] == list(range(5))
    torch.testing.assert_close(torch.cat(chunks), whole, atol=1e-2, rtol=0)
    assert list(resized_in_chunks(logits[:0], (64, 96), (50, 75), SIZE)) == []
