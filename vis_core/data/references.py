"""Frames of a video that can serve as references for another one (Propose-Reduce): they show its objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from vis_core.data.clip_instances import NOT_VISIBLE
from vis_core.data.filtering import usable_objects

ObjectsByClass = Mapping[int, set[int]]


def shared_reference_frames(record: dict, key: int) -> list[int]:
    """The other frames of a video record that :func:`serves_as_reference` for frame ``key``.

    Works on the annotations' ids; no mask is decoded.
    """
    target = _by_class(usable_objects(record, key))
    return [
        t
        for t in range(record["length"])
        if t != key and serves_as_reference(target, _by_class(usable_objects(record, t)))
    ]


def serves_as_reference(target: ObjectsByClass, reference: ObjectsByClass) -> bool:
    """Whether one frame's objects {class: ids} may be looked for in another frame, ``target``.

    They share an object, and no object of the target is missing whose class the reference shows: it would look like one
    of the objects that are there.
    """
    common = target.keys() & reference.keys()
    shared = set().union(*target.values()) & set().union(*reference.values())
    return bool(shared) and bool(common) and all(target[k] <= reference[k] for k in common)


def visible_by_class(instances) -> dict[int, set[int]]:
    """{class: ids} of the objects that one frame's Instances of a clip show."""
    visible = instances.gt_ids != NOT_VISIBLE
    objects = defaultdict(set)
    for category, object_id in zip(instances.gt_classes[visible].tolist(), instances.gt_ids[visible].tolist()):
        objects[category].add(object_id)
    return objects


def _by_class(objects: Sequence[dict]) -> dict[int, set[int]]:
    ids = defaultdict(set)
    for obj in objects:
        ids[obj["category_id"]].add(obj["id"])
    return ids
