"""How far outputs of the segmenter as we run it are from those of the plain way, with equal weights.

A decoder layer attends to the tokens inside a query's mask, to those with positive logits. A logit that is 0 but for
its rounding falls on either side, and then a token more or less counts. Of the million logits of a frame, some are that
small if the network was not trained; the plain way with float32 departs from float64 as far, therefore.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from plain_segmenter import plain_segmenter
from torch import nn

from vis_core.modeling import for_inference
from vis_core.modeling.mask2former import query_decoder
from vis_core.modeling.mask2former.query_decoder import allowed_tokens

TOLERANCE = 1e-3
KEYS = ("pred_logits", "pred_masks", "pred_embeds")


@dataclass
class Outputs:
    """Of one frame, with what each of the decoder's layers attended to: (1, Q, tokens) bool."""

    values: dict[str, torch.Tensor]
    allowed: list[torch.Tensor]

    def difference(self, other: Outputs) -> float:
        return max((self.values[key] - other.values[key]).abs().max().item() for key in KEYS)

    def num_turned(self, other: Outputs) -> int:
        """Decisions that are not the other's. (Once one is not, later ones stand on other ground.)"""
        return sum((a != b).sum().item() for a, b in zip(self.allowed, other.allowed))

    @property
    def num_decisions(self) -> int:
        return sum(x.numel() for x in self.allowed)


class Segmenter:
    """A segmenter and the ways to run it on a frame."""

    def __init__(self, net: nn.Module):
        self.net = net

    @torch.no_grad()
    def ours(self, frame: torch.Tensor, attend_to: list[torch.Tensor] | None = None) -> Outputs:
        """``attend_to`` takes the place of the network's own decisions."""
        net = self.net
        return _run(for_inference(net.backbone), for_inference(net.sem_seg_head), self._image(frame), attend_to)

    @torch.no_grad()
    def plain(self, frame: torch.Tensor) -> Outputs:
        with plain_segmenter():
            return _run(self.net.backbone, self.net.sem_seg_head, self._image(frame))

    @torch.no_grad()
    def plain_in_float64(self, frame: torch.Tensor) -> Outputs:
        exact = copy.deepcopy(self.net).double()
        with plain_segmenter(), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            return _run(exact.backbone, exact.sem_seg_head, self._image(frame).double())

    def _image(self, frame: torch.Tensor) -> torch.Tensor:
        return self.net.preprocess_images([frame]).tensor


def _run(backbone: nn.Module, head: nn.Module, image: torch.Tensor, attend_to: list | None = None) -> Outputs:
    with _recorded(attend_to) as allowed:
        return Outputs(head(backbone(image), with_aux=False), allowed)


@contextmanager
def _recorded(attend_to: list[torch.Tensor] | None) -> Iterator[list[torch.Tensor]]:
    """Collects what the decoder's logits allow; the decoder gets ``attend_to`` instead, if it is given."""
    allowed: list[torch.Tensor] = []

    def decide(logits: torch.Tensor) -> torch.Tensor:
        allowed.append(allowed_tokens(logits))
        return allowed[-1] if attend_to is None else attend_to[len(allowed) - 1]

    with mock.patch.object(query_decoder, "allowed_tokens", decide):
        yield allowed


def compare_untrained(name: str, net: nn.Module, frame: torch.Tensor) -> None:
    segmenter = Segmenter(net)
    plain, ours, exact = segmenter.plain(frame), segmenter.ours(frame), segmenter.plain_in_float64(frame)
    same = segmenter.ours(frame, attend_to=plain.allowed)
    turned = f"{same.num_turned(plain)} of {plain.num_decisions} decisions turned"
    print(f"  {name}: ours - plain {ours.difference(plain):.1e} ({turned};", end=" ")
    print(f"with the same {same.difference(plain):.1e}); plain - float64 {plain.difference(exact):.1e}", flush=True)


def compare_trained(name: str, net: nn.Module, frames: Iterable[torch.Tensor]) -> None:
    """Print one line for all frames."""
    segmenter = Segmenter(net)
    worst, num_frames, num_turned, num_decisions = 0.0, 0, 0, 0
    for frame in frames:
        plain, ours = segmenter.plain(frame), segmenter.ours(frame)
        worst = max(worst, ours.difference(plain))
        num_frames += 1
        num_turned += ours.num_turned(plain)
        num_decisions += plain.num_decisions
    print(
        f"  {name} on {num_frames} frames: ours - plain {worst:.1e} ({num_turned} of {num_decisions} decisions turned)",
        flush=True,
    )
