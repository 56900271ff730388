import json
import logging

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.structures import Boxes, Instances
from torch import nn

# ---- the loop


class Doubler(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, batch):
        self.seen.append((self.training, torch.is_grad_enabled()))
        return [x * 2 * self.weight for x in batch]


class Sum(DatasetEvaluator):
    def __init__(self, key="sum"):
        self.key = key
        self.total = 1000.0

    def reset(self):
        self.total = 0.0

    def process(self, inputs, outputs):
        for i, o in zip(inputs, outputs):
            assert o == 2 * i and not o.requires_grad
            self.total += float(o)

    def evaluate(self):
        return {self.key: {"total": self.total}}


@pytest.mark.parametrize("training", [True, False])
def test_inference_on_dataset(training):
    model = Doubler().train(training)
    loader = [[1, 2], [3], [4, 5, 6]]
    assert inference_on_dataset(model, loader, Sum()) == {"sum": {"total": 42.0}}
    assert model.training == training
    assert model.seen == [(False, False)] * 3
    assert torch.is_grad_enabled()


def test_mode_is_restored_after_an_error():
    model = Doubler().train()
    with pytest.raises(TypeError):
        inference_on_dataset(model, [[None]], Sum())
    assert model.training
    with inference_context(model):
        assert not model.training
    assert model.training


def test_several_evaluators():
    loader = [[1.0]]
    results = inference_on_dataset(Doubler(), loader, [Sum("a"), Sum("b")])
    assert results == {"a": {"total": 2.0}, "b": {"total": 2.0}}
    assert inference_on_dataset(Doubler(), loader, None) == {}
    with pytest.raises(AssertionError):
        inference_on_dataset(Doubler(), loader, DatasetEvaluators([Sum("a"), Sum("a")]))


def test_callbacks():
    calls = []
    events = ("on_start", "before_inference", "after_inference", "on_end")
    inference_on_dataset(Doubler(), [[1], [2]], None, callbacks={e: (lambda e=e: calls.append(e)) for e in events})
    assert calls == ["on_start", *["before_inference", "after_inference"] * 2, "on_end"]


def test_any_callable_is_a_model():
    assert inference_on_dataset(lambda b: [torch.tensor(2 * x) for x in b], [[4]], Sum()) == {"sum": {"total": 8.0}}


def test_long_loaders_are_timed(monkeypatch):
    messages = []
    monkeypatch.setattr(
        "detectron2.evaluation.evaluator.log_every_n_seconds", lambda lvl, msg, n=1, *, name=None: messages.append(msg)
    )
    inference_on_dataset(Doubler(), [[1]] * 12, None)
    assert messages and all("ETA" in m for m in messages)
    assert "12/12" in messages[-1] and not any(" 1/12" in m for m in messages)  # the first ones are left out


# ---- results


def test_csv():
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("detectron2.evaluation.testing")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        print_csv_format({"segm": {"AP": 1 / 3, "AP-cat": 2.0, "AR": 2.0}, "speed": 7})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert messages == [
        "copypaste: Task: segm",
        "copypaste: AP,AR",
        "copypaste: 0.3333,2.0000",
        "copypaste: speed=7",
    ]


@pytest.mark.parametrize(
    ("results", "good"),
    [
        ({"bbox": {"AP": 38.9}}, True),
        ({"bbox": {"AP": 39.6}}, False),
        ({"bbox": {"AP": float("nan")}}, False),
        ({"bbox": {}}, False),
        ({"segm": {"AP": 38.5}}, False),
    ],
)
def test_verification(results, good):
    cfg = get_cfg()
    assert verify_results(cfg, results)
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 38.5, 1.0]]
    if good:
        assert verify_results(cfg, results)
    else:
        with pytest.raises(SystemExit) as error:
            verify_results(cfg, results)
        assert error.value.code == 1


def test_flattening():
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == {"a/b/c": 1, "e": 2}


# ---- COCO

NAME = "test_evaluation_coco"
H, W = 64, 80


def box_mask(x0, y0, x1, y1):
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def predictions(boxes, classes, scores, masks=True):
    result = Instances((H, W))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    result.scores = torch.tensor(scores, dtype=torch.float32)
    if masks:
        result.pred_masks = torch.stack([box_mask(*b) for b in boxes]) if boxes else torch.zeros(0, H, W)
    return result


TRUTH = {11: [((2, 3, 20, 25), 0), ((30, 8, 70, 50), 1)], 5: [((10, 10, 22, 40), 1)]}


def write_truth(path, annotated=True):
    annotations = []
    for image_id, objects in TRUTH.items():
        for (x0, y0, x1, y1), category in objects:
            rle = mask_util.encode(np.asfortranarray(box_mask(x0, y0, x1, y1).numpy().astype(np.uint8)))
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": (4, 17)[category],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    images = [{"id": i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in TRUTH]
    categories = [{"id": 4, "name": "cat"}, {"id": 17, "name": "dog"}]
    content = {"images": images, "categories": categories, "info": {}}
    path.write_text(json.dumps({**content, "annotations": annotations} if annotated else content))
    return str(path)


@pytest.fixture
def dataset(tmp_path):
    register_coco_instances(NAME, {}, write_truth(tmp_path / "truth.json"), "")
    DatasetCatalog.get(NAME)
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def evaluate(evaluator, per_image):
    evaluator.reset()
    for image_id, instances in per_image.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def perfect():
    return {
        image_id: predictions([b for b, _ in objects], [c for _, c in objects], [0.9] * len(objects))
        for image_id, objects in TRUTH.items()
    }


def test_perfect_predictions(dataset, tmp_path):
    out = tmp_path / "out"
    results = evaluate(COCOEvaluator(dataset, output_dir=str(out)), perfect())
    assert set(results) == {"bbox", "segm"}
    for metrics in results.values():
        assert set(metrics) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-cat", "AP-dog"}
        for name in ("AP", "AP50", "AP75", "APs", "APm", "AP-cat", "AP-dog"):
            assert metrics[name] == pytest.approx(100)
        assert np.isnan(metrics["APl"])  # there are no objects of that size
    entries = json.loads((out / "coco_instances_results.json").read_text())
    assert sorted(e["category_id"] for e in entries) == [4, 17, 17]
    assert len(torch.load(out / "instances_predictions.pth", weights_only=True)) == 2


def test_a_miss_and_a_false_alarm(dataset):
    found = perfect()
    found[5] = predictions([(10, 10, 22, 40), (40, 10, 60, 40)], [1, 0], [0.5, 0.95])
    results = evaluate(COCOEvaluator(dataset, tasks=("segm",)), found)
    assert set(results) == {"segm"}
    # the false cat is scored above the true one: precision 1/2 at every recall
    assert results["segm"]["AP-cat"] == pytest.approx(50)
    assert results["segm"]["AP-dog"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(75)
    found[5] = predictions([], [], [])
    results = evaluate(COCOEvaluator(dataset, tasks=("segm",)), found)
    assert results["segm"]["AP-dog"] == pytest.approx(100 * 51 / 101)  # recall points 0, 0.01, ..., 0.5


def test_boxes_and_masks_are_judged_apart(dataset):
    found = perfect()
    found[5].pred_masks = torch.zeros(1, H, W, dtype=torch.bool)
    found[5].pred_masks[0, 0, 0] = True
    results = evaluate(COCOEvaluator(dataset), found)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP-dog"] < 60


def test_tasks_follow_the_predictions(dataset):
    found = {11: predictions([(2, 3, 20, 25)], [0], [0.9], masks=False)}
    assert set(evaluate(COCOEvaluator(dataset), found)) == {"bbox"}


def test_detection_limit(dataset):
    found = perfect()
    false = [(0, 40, 9, 60)] * 11
    found[11] = predictions([*false, (2, 3, 20, 25)], [0] * 12, [0.95] * 11 + [0.9])
    limited = COCOEvaluator(dataset, max_dets_per_image=11)
    assert evaluate(limited, found)["segm"]["AP-cat"] == pytest.approx(0)
    assert evaluate(COCOEvaluator(dataset), found)["segm"]["AP-cat"] == pytest.approx(100 / 12)


def test_selected_images(dataset):
    evaluator = COCOEvaluator(dataset)
    evaluate(evaluator, {11: perfect()[11]})
    assert evaluator.evaluate()["segm"]["AP"] < 80
    assert evaluator.evaluate(img_ids=[11])["segm"]["AP"] == pytest.approx(100)


def test_nothing_found(dataset):
    results = evaluate(COCOEvaluator(dataset, tasks=("bbox",)), {11: predictions([], [], [])})
    assert all(np.isnan(v) for v in results["bbox"].values())
    evaluator = COCOEvaluator(dataset)
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_unknown_class(dataset):
    with pytest.raises(AssertionError):
        evaluate(COCOEvaluator(dataset), {11: predictions([(2, 3, 20, 25)], [2], [0.9])})


def test_without_annotations(tmp_path):
    register_coco_instances(NAME, {}, write_truth(tmp_path / "truth.json", annotated=False), "")
    try:
        DatasetCatalog.get(NAME)
        assert evaluate(COCOEvaluator(NAME, output_dir=str(tmp_path / "out")), perfect()) == {}
        assert len(json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())) == 3
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def test_dataset_without_a_file_is_converted(dataset, tmp_path):
    records = DatasetCatalog.get(dataset)
    name = NAME + "_dicts"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = ["cat", "dog"]
    try:
        evaluator = COCOEvaluator(name, output_dir=str(tmp_path / "converted"))
        assert evaluate(evaluator, perfect())["segm"]["AP"] == pytest.approx(100)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_result_entries():
    (entry,) = instances_to_coco_json(predictions([(2, 3, 20, 25)], [1], [0.5]), 7)
    assert entry["image_id"] == 7 and entry["category_id"] == 1 and entry["score"] == 0.5
    assert entry["bbox"] == [2, 3, 18, 22]
    assert isinstance(entry["segmentation"]["counts"], str)
    assert mask_util.area(entry["segmentation"]) == 18 * 22
    assert instances_to_coco_json(predictions([], [], []), 7) == []
