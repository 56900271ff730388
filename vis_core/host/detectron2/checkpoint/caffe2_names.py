"""Names of the Caffe2 model zoo (the MSRA ImageNet weights, the first Mask R-CNNs) → this API's names."""

import re

import torch

# Applied in this order to names in which "_" has already become ".".
_RULES: list[tuple[str, str]] = [
    # last part: what a blob is to its layer
    (r"(\.|^)(bn|gn)\.(s|gamma)$", r"\1norm.weight"),
    (r"(\.|^)(bn|gn)\.(b|bias|beta)$", r"\1norm.bias"),
    (r"(\.|^)bn\.rm$", r"\1norm.running_mean"),
    (r"(\.|^)bn\.(riv|running\.var)$", r"\1norm.running_var"),
    (r"(\.|^)bn\.running\.mean$", r"\1norm.running_mean"),
    (r"\.w$", ".weight"),
    (r"\.b$", ".bias"),
    # ResNet
    (r"^res\.conv1\.norm\.", "stem.conv1.norm."),
    (r"^conv1\.norm\.", "stem.conv1.norm."),
    (r"^conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
    # FPN: the lateral of the top level ends in "sum", those below in "sum.lateral"
    (r"^fpn\.inner\.res(\d)\.\d+\.sum(\.lateral)?\.", r"fpn_lateral\1."),
    (r"^fpn\.res(\d)\.\d+\.sum\.", r"fpn_output\1."),
    # RPN, with one head for all levels ("fpn2") or without FPN
    (r"^conv\.rpn(\.fpn\d)?\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.cls\.logits(\.fpn\d)?\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.bbox\.pred(\.fpn\d)?\.", "proposal_generator.rpn_head.anchor_deltas."),
    # box head
    (r"^head\.conv(\d)\.", r"box_head.conv\1."),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^cls\.score\.", "box_predictor.cls_score."),
    (r"^bbox\.pred\.", "box_predictor.bbox_pred."),
    # mask head
    (r"^\.?\[mask\]\.fcn(\d)\.", r"mask_head.mask_fcn\1."),
    (r"^conv5\.mask\.", "mask_head.deconv."),
    (r"^mask\.fcn\.logits\.", "mask_head.predictor."),
]


def from_caffe2_name(name: str) -> str:
    """``res2_0_branch2a_bn_s`` → ``res2.0.conv1.norm.weight``; a name under no rule only has its ``_`` replaced."""
    name = name.replace("_", ".")
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name


def from_caffe2_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Caffe2 state under this API's names and with its order of classes.

    Caffe2 counts background as class 0. Here it is the last class of the classifier, and the box and mask
    predictors have no rows for it.

    Raises:
        ValueError: two blobs get the same name.
    """
    converted: dict[str, torch.Tensor] = {}
    for old_name, value in state.items():
        name = from_caffe2_name(old_name)
        if name in converted:
            raise ValueError(f"Caffe2 blob '{old_name}' and another one both become '{name}'")
        if name.startswith("box_predictor.cls_score."):
            value = torch.cat([value[1:], value[:1]])
        elif name.startswith("box_predictor.bbox_pred."):
            value = value[4:]
        elif name.startswith("mask_head.predictor."):
            value = value[1:] if len(value) > 1 else value  # one row: the same mask for all classes
        converted[name] = value
    return converted
