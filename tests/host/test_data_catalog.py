import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def name():
    name = "test_catalog_dataset"
    yield name
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


def test_records_are_loaded_at_every_request(name):
    calls = []
    DatasetCatalog.register(name, lambda: calls.append(1) or [{"n": len(calls)}])
    assert calls == []
    assert DatasetCatalog.get(name) == [{"n": 1}]
    assert DatasetCatalog.get(name) == [{"n": 2}]
    assert name in DatasetCatalog and name in DatasetCatalog.list()


def test_a_name_is_registered_once_until_it_is_removed(name):
    DatasetCatalog.register(name, list)
    with pytest.raises(AssertionError):
        DatasetCatalog.register(name, list)
    DatasetCatalog.remove(name)
    with pytest.raises(KeyError, match=name):
        DatasetCatalog.get(name)
    DatasetCatalog.register(name, list)


def test_unknown_name_lists_the_known_ones(name):
    DatasetCatalog.register(name, list)
    with pytest.raises(KeyError, match=name):
        DatasetCatalog.get("no_such_dataset")


def test_metadata_values_can_be_set_again_but_not_changed(name):
    meta = MetadataCatalog.get(name).set(thing_classes=["a", "b"], evaluator_type="x")
    assert meta is MetadataCatalog.get(name)
    meta.thing_classes = ["a", "b"]
    with pytest.raises(AssertionError):
        meta.thing_classes = ["a"]
    with pytest.raises(AssertionError):
        meta.set(evaluator_type="y")
    assert meta.as_dict() == {"name": name, "thing_classes": ["a", "b"], "evaluator_type": "x"}


def test_missing_metadata(name):
    meta = MetadataCatalog.get(name)
    assert meta.name == name
    assert meta.get("colors") is None and meta.get("colors", 3) == 3
    assert not hasattr(meta, "colors")
    with pytest.raises(AttributeError, match="colors"):
        _ = meta.colors


def test_changing_the_dict_leaves_the_metadata_alone(name):
    meta = MetadataCatalog.get(name)
    meta.as_dict()["extra"] = 1
    assert not hasattr(meta, "extra")


def test_removed_metadata_starts_anew(name):
    MetadataCatalog.get(name).value = 1
    assert name in MetadataCatalog.list()
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).value = 2
    assert MetadataCatalog.get(name).value == 2


@pytest.mark.parametrize("split", ["coco_2017_train", "coco_2017_val", "coco_2014_train", "coco_2017_test-dev"])
def test_built_in_coco(split):
    assert split in DatasetCatalog.list()
    meta = MetadataCatalog.get(split)
    assert len(meta.thing_classes) == len(meta.thing_colors) == 80
    assert (meta.thing_classes[0], meta.thing_classes[79]) == ("person", "toothbrush")
    ids = meta.thing_dataset_id_to_contiguous_id
    assert sorted(ids.values()) == list(range(80))
    assert list(ids) == sorted(ids) and (min(ids), max(ids)) == (1, 90)
    assert meta.evaluator_type == "coco"
    assert meta.json_file.endswith(".json") and split.split("_")[1] in meta.json_file
