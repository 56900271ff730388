"""Finds the model's name for a checkpoint's parameter when the two differ by a prefix."""

import logging
from collections import defaultdict

import torch


def best_suffix_match(model_key: str, checkpoint_keys: set[str]) -> str | None:
    """The longest checkpoint key that is the model key or its tail after a dot; None if there is none.

    ``backbone.bottom_up.res2.0.conv1.weight`` is matched by ``res2.0.conv1.weight`` and, more weakly, by
    ``conv1.weight``.
    """
    tail = model_key
    while tail not in checkpoint_keys:
        _, dot, tail = tail.partition(".")
        if not dot:
            return None
    return tail


def rename_to_model_keys(
    model_state: dict[str, torch.Tensor], checkpoint_state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A checkpoint's state under the model's names.

    A matching tensor of another shape is passed over with a warning. What matches no model key keeps its name.

    Args:
        model_state: the model's names and tensors.
        checkpoint_state: the checkpoint's names and tensors.

    Raises:
        ValueError: one checkpoint key matches several model keys.
    """
    logger = logging.getLogger(__name__)
    checkpoint_keys = set(checkpoint_state)
    targets: dict[str, list[str]] = defaultdict(list)  # checkpoint key → model keys
    for model_key, model_value in model_state.items():
        key = best_suffix_match(model_key, checkpoint_keys)
        if key is None:
            continue
        found, expected = tuple(checkpoint_state[key].shape), tuple(model_value.shape)
        if found != expected:
            logger.warning("'%s' %s does not fit the model's '%s' %s: not loaded", key, found, model_key, expected)
        else:
            targets[key].append(model_key)

    for key, model_keys in targets.items():
        if len(model_keys) > 1:
            raise ValueError(f"checkpoint key '{key}' matches several model keys: {', '.join(model_keys)}")
    renamed = {model_keys[0]: checkpoint_state[key] for key, model_keys in targets.items()}
    # last, so that a left-over name never replaces a match
    for key, value in checkpoint_state.items():
        if key not in targets:
            renamed.setdefault(key, value)
    logger.info("%d of %d checkpoint entries matched by name", len(targets), len(checkpoint_state))
    return renamed
