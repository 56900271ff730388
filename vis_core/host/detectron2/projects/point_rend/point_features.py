"""Features and training samples at points (PointRend, Kirillov et al., CVPR 2020)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F


def point_sample(input: torch.Tensor, point_coords: torch.Tensor, **kwargs) -> torch.Tensor:
    """Values of feature maps at points, by :func:`torch.nn.functional.grid_sample`.

    Args:
        input: (N, C, H, W).
        point_coords: (N, P, 2) or (N, Hg, Wg, 2), (x, y) with (0, 0) and (1, 1) the corners of the map.
        kwargs: for ``grid_sample``.

    Returns (N, C, P) or (N, C, Hg, Wg).
    """
    is_list = point_coords.dim() == 3
    grid = point_coords.unsqueeze(2) if is_list else point_coords  # (N, P, 1, 2)
    output = F.grid_sample(input, 2.0 * grid - 1.0, **kwargs)
    return output.squeeze(3) if is_list else output


def get_uncertain_point_coords_with_randomness(
    coarse_logits: torch.Tensor,
    uncertainty_func: Callable[[torch.Tensor], torch.Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> torch.Tensor:
    """Random points, most of them where a prediction is least certain (section 3.1 of the paper).

    Args:
        coarse_logits: (N, C, H, W).
        uncertainty_func: (N, C, P) logits at points -> (N, 1, P), larger is less certain.
        num_points: P.
        oversample_ratio: >= 1; this many times P points are drawn uniformly to choose from.
        importance_sample_ratio: in [0, 1]; the share of P that are the least certain of them. The others are drawn
            uniformly anew, afterwards.

    Returns (N, P, 2) coordinates in [0, 1).
    """
    assert oversample_ratio >= 1, f"oversample_ratio {oversample_ratio} is less than 1"
    assert 0 <= importance_sample_ratio <= 1, f"importance_sample_ratio {importance_sample_ratio} is not in [0, 1]"
    num_images, device = coarse_logits.shape[0], coarse_logits.device
    candidates = torch.rand(num_images, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = uncertainty_func(point_sample(coarse_logits, candidates, align_corners=False))[:, 0]
    num_uncertain = int(importance_sample_ratio * num_points)
    best = uncertainty.topk(num_uncertain, dim=1).indices  # (N, num_uncertain)
    chosen = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    if num_uncertain == num_points:
        return chosen
    return torch.cat([chosen, torch.rand(num_images, num_points - num_uncertain, 2, device=device)], dim=1)
