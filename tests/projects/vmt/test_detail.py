import pytest
import torch

from projects.vmt.detail import box_masks, near_contours, pick_points
from projects.vmt.dynamic import dynamic_masks, num_parameters, split_parameters
from projects.vmt.features import MaskMaps
from projects.vmt.refiner import RefineInputs, ReleaseRefiner
from vis_core.errors import ConfigError


def test_boxes_beyond_the_upper_left_edge_are_lost_unless_clamped():
    boxes = torch.tensor([[-4.0, 5, 9, 40], [-0.9, 2, 12.8, 10.5]])
    as_released = box_masks(boxes, (45, 30))
    assert as_released[0].sum() == 0
    assert as_released[1].sum() == 12 * 8  # truncated toward zero
    clamped = box_masks(boxes, (45, 30), clamp=True)
    assert clamped[0].sum() == 9 * 35
    assert torch.equal(clamped[1], as_released[1])


def test_points_above_the_limit():
    selected = torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) > 0.4
    everything = pick_points(selected, 0, "random")
    assert torch.equal(everything, selected.flatten().nonzero()[:, 0])
    assert torch.equal(pick_points(selected, len(everything), "random"), everything)
    for sampling in ("random", "strided"):
        torch.manual_seed(5)
        points = pick_points(selected, 100, sampling)
        assert len(points) == len(points.unique()) == 100
        assert torch.isin(points, everything).all()
        assert torch.equal(points, points.sort().values)
        torch.manual_seed(6)  # the global generator has no say
        assert torch.equal(points, pick_points(selected, 100, sampling))
    strided = pick_points(selected, 100, "strided")
    assert strided.diff().max() < 3 * len(selected.flatten()) / 100


def test_dynamic_convolutions_keep_their_precision_under_autocast():
    torch.manual_seed(0)
    parameters, references = torch.randn(3, num_parameters(7, 8)), 600 * torch.rand(2, 3, 2)
    shared, own = torch.randn(2, 4, 9, 11), torch.randn(2, 3, 9, 11)
    wanted = dynamic_masks(split_parameters(parameters, 7, 8), shared, references, 8, own)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dynamic_masks(split_parameters(parameters, 7, 8), shared, references, 8, own), wanted)
        halved = dynamic_masks(split_parameters(parameters, 7, 8), shared.bfloat16(), references, 8, own)
    assert halved.dtype == torch.float32


def test_unknown_sampling_is_refused():
    with pytest.raises(ConfigError, match="POINT_SAMPLING: 'best'"):
        ReleaseRefiner(point_sampling="best")


def test_contours_of_a_union():
    left, right = torch.full((2, 12, 20), -5.0)
    left[:, :11] = 5
    right[:, 10:] = 5
    together = near_contours(torch.stack([left, right])[None], (24, 40))[0]
    whole = near_contours(torch.full((1, 1, 12, 20), 5.0), (24, 40))[0]
    assert torch.equal(together, whole)  # the border between the two is not seen
    alone = near_contours(left[None, None], (24, 40))[0]
    assert alone[12, 18] and not together[12, 18]


@pytest.mark.parametrize("step", [1, 2, 7])
def test_branches_by_pieces_equal_the_plain_convolutions(step):
    torch.manual_seed(0)
    refiner = ReleaseRefiner(dim=16)
    maps, own = torch.randn(16, 9, 11), torch.randn(5, 5, 9, 11)
    whole = torch.cat([maps.expand(5, -1, -1, -1), own], dim=1)
    assert torch.allclose(refiner.fuse_frame(maps, own, step), sum(b(whole) for b in refiner.fuse), atol=1e-5)


def test_no_contour_is_fine():
    refiner = ReleaseRefiner(dim=16).eval()
    inputs = RefineInputs(
        MaskMaps(None, None, torch.randn(1, 16, 5, 6)),
        torch.randn(1, 16, 10, 12),
        torch.full((1, 2, 3, 3), -9.0),
        torch.full((1, 2, 5, 6), -9.0),
        torch.randn(2, 256),
        torch.rand(1, 2, 2),
        torch.rand(1, 2, 4),
    )
    output = refiner(inputs)
    assert output.masks.shape == (1, 2, 20, 24)
    assert not output.selected.any()
