"""Damaged files: whatever stands in them, they are read or refused with a DataError of one line, never a crash."""

import copy
import json
import random
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vis_core.data.annotation_checks import check_annotations, repair
from vis_core.data.formats import FORMATS, Labels, Track, Video, read_labels, write_labels
from vis_core.data.formats.regions import mask_rle
from vis_core.errors import DataError

JSON_FORMATS = ["ytvis", "coco-video", "coco", "labelme", "sa-v"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "size", "counts"]), inner),
    max_leaves=4,
)


def labels():
    video = Video("a", 6, 8, ["a/0.jpg", "a/1.jpg"], id=1)
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = True
    video.tracks = [Track("1", "cat", {0: mask_rle(mask), 1: mask_rle(mask)}, id=1)]
    return Labels([video], {"cat": 1, "dog": 2})


def nodes(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nodes(inner, (*path, key))


def damaged(content, value, remove, rng):
    content = copy.deepcopy(content)
    *path, last = rng.choice([path for path in nodes(content) if path])
    holder = content
    for key in path:
        holder = holder[key]
    if remove:
        del holder[last]
    else:
        holder[last] = value
    return content


def read_or_refuse(source, name):
    try:
        read_labels(source, name)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_damaged_json(name, tmp_path):
    source = tmp_path / ("labels.json" if FORMATS[name].is_file else "labels")
    write_labels(labels(), source, name)
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*.json"))
    originals = {path: json.loads(path.read_text()) for path in files}

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VALUES, st.booleans(), st.integers(0, 2**32))
    def check(value, remove, seed):
        rng = random.Random(seed)
        path = rng.choice(files)
        path.write_text(json.dumps(damaged(originals[path], value, remove, rng)))
        read_or_refuse(source, name)
        path.write_text(json.dumps(originals[path]))

    check()


@pytest.mark.parametrize("name", ["cvat", "mots"])
def test_damaged_text(name, tmp_path):
    source = tmp_path / "labels"
    write_labels(labels(), source, name)
    (path,) = [path for path in source.rglob("*") if path.suffix in (".xml", ".txt")]
    original = path.read_text()
    places = [match.span() for match in re.finditer(r'"[^"]*"|\b\w+\b', original)]
    texts = st.text(max_size=4) | st.sampled_from(
        ["-1", "0", "1e999", "nan", "999999999999", "1,2;3", "", "<", "²", "٣"]
    )

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(texts, st.sampled_from(places))
    def check(text, place):
        text = f'"{text}"' if original[place[0]] == '"' else text
        path.write_text(original[: place[0]] + text + original[place[1] :], encoding="utf-8", errors="replace")
        read_or_refuse(source, name)

    check()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES, st.booleans(), st.integers(0, 2**32))
def test_check_tells_and_repairs_without_a_crash(value, remove, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gt.json"
        write_labels(labels(), path)
        path.write_text(json.dumps(damaged(json.loads(path.read_text()), value, remove, random.Random(seed))))
        try:
            data, problems = check_annotations(path, Path(folder))
        except DataError:
            return
        repair(problems)
        json.dumps([problem.to_json() for problem in problems])
        path.write_text(json.dumps(data))
        check_annotations(path)
