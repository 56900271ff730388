import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.errors import DataError
from vis_core.evaluation import entries as module
from vis_core.evaluation.entries import FileEntries, MemoryEntries, read_without

TEXT = st.text(st.sampled_from('ab"\\{}[]:, é\nvideo_id'), max_size=12)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-50, 50) | st.floats(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("video_id"), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def entry_lists(draw):
    entries = []
    for _ in range(draw(st.integers(0, 6))):
        entry = {**draw(st.dictionaries(TEXT, VALUE, max_size=3)), "video_id": draw(st.integers(-3, 10**12))}
        keys = draw(st.permutations(sorted(entry)))
        entries.append({key: entry[key] for key in keys})
    return entries


FORMS = st.sampled_from(
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" ,\t", "\r\n : ")}, {"ensure_ascii": False}]
)


@settings(max_examples=100, deadline=None)
@given(entry_lists(), FORMS, st.sampled_from([3, 17, 1 << 22]))
def test_a_file_gives_what_json_gives(tmp_path_factory, entries, form, block):
    path = tmp_path_factory.mktemp("entries") / "results.json"
    path.write_text(json.dumps(entries, **form), encoding="utf-8")
    original, module._BLOCK = module._BLOCK, block
    try:
        from_file = FileEntries(str(path), "entry")
    finally:
        module._BLOCK = original
    in_memory = MemoryEntries(entries, "results", "entry")
    assert len(from_file) == len(in_memory) == len(entries)
    assert list(from_file.video_ids) == list(in_memory.video_ids)
    for video_id in in_memory.video_ids:
        assert from_file.of(video_id) == in_memory.of(video_id)
        assert from_file.count(video_id) == in_memory.count(video_id)
    assert from_file.of(-99) == []


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(TEXT, VALUE, max_size=3), entry_lists(), st.dictionaries(TEXT, VALUE, max_size=3), FORMS)
def test_a_list_is_cut_out_of_its_object(tmp_path_factory, before, entries, after, form):
    data = {**before, "annotations": entries, **{f"{key}?": value for key, value in after.items()}}
    path = tmp_path_factory.mktemp("entries") / "gt.json"
    path.write_text(json.dumps(data, **form), encoding="utf-8")
    rest, span = read_without(path, "annotations")
    assert rest == {**data, "annotations": None}
    assert len(FileEntries(str(path), "annotation", *span)) == len(entries)


def test_many_entries_outgrow_the_first_arrays(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"video_id": number % 7, "n": number} for number in range(5000)]))
    entries = FileEntries(str(path), "entry")
    assert [entry["n"] for _, entry in entries.of(3)] == list(range(3, 5000, 7))


@pytest.mark.parametrize("text", ['{"a": 1}', '{"annotations": null}', '{"annotations": 3}'])
def test_an_object_without_the_list(tmp_path, text):
    path = tmp_path / "gt.json"
    path.write_text(text)
    assert read_without(path, "annotations") == (json.loads(text), None)


@pytest.mark.parametrize(
    "text, problem",
    [
        ('[{"video_id": 1}', "ends too early"),
        ('[{"video_id": 1, "a": "b', "ends too early"),
        ("", "ends too early"),
        (" \n", "ends too early"),
        ('{"video_id": 1}', "not a json list"),
        ("3", "not a json list"),
        ("null", "not a json list"),
        ('[{"video_id": 1}, 4]', "not a json list"),
        ('[{"video_id": 1}, "x"]', "not a json list"),
        ('[{"video_id": 1} {"video_id": 1}]', "not a json list"),
        ('[{"video_id": 1},]', "not a json list"),
        ('[,{"video_id": 1}]', "not a json list"),
        ('[{"video_id": 1},,{"video_id": 1}]', "not a json list"),
        ('[{"video_id": 1}] x', "not a json list"),
        ('[{"video_id": 1}][]', "not a json list"),
        ('[[{"video_id": 1}]]', "not an object"),
        ('[{"video_id": "1"}]', "no integer 'video_id'"),
        ('[{"video_id": 1.5}]', "no integer 'video_id'"),
        ('[{"video_id": null}]', "no integer 'video_id'"),
        ('[{"image_id": 1}]', "looks like COCO"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, problem):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=problem) as error:
        FileEntries(str(path), "entry")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_broken_entry_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('[{"video_id": 1}, {"video_id": 2, "score": x}]')
    entries = FileEntries(str(path), "entry")
    assert entries.of(1) == [(0, {"video_id": 1})]
    with pytest.raises(DataError, match="entry 1, at byte 18"):
        entries.of(2)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        FileEntries(str(tmp_path / "no.json"), "entry")
    with pytest.raises(DataError, match="cannot be read"):
        read_without(tmp_path / "no.json", "annotations")


def test_the_scanner_takes_any_int64(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('[{"video_id": -12 },{"video_id":999999999999999999\n}]')
    assert list(FileEntries(str(path), "entry").video_ids) == [-12, 999999999999999999]
    assert np.iinfo(np.int64).max > 999999999999999999
