"""From MODEL.PROPOSAL_GENERATOR.NAME to a proposal generator."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = (
    "Callables ``(cfg, input_shape: {name: ShapeSpec}) -> module``; the module maps "
    "``(images, features, gt_instances)`` to (proposals, losses)."
)


def build_proposal_generator(cfg, input_shape: dict[str, ShapeSpec]):
    """Build what ``cfg.MODEL.PROPOSAL_GENERATOR.NAME`` names; None where proposals come with the data."""
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
