import json
import math
import zipfile

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.data import MetadataCatalog

from vis_core.errors import ConfigError, DataError
from vis_core.evaluation import YTVISEvaluator, evaluate_tracks
from vis_core.rle import encode_dense
from vis_core.tube import Tube

NAME = "evaluator_test"


def rle(row: int) -> dict:
    mask = np.zeros((1, 12, 9), bool)
    mask[0, row : row + 4, 2:7] = True
    return {"size": [12, 9], "counts": encode_dense(mask)[0]}


def ground_truth() -> dict:
    return {
        "videos": [{"id": v, "height": 12, "width": 9, "length": 2, "file_names": []} for v in (1, 2, 3, 4, 5)],
        "categories": [{"id": 30, "name": "dog"}, {"id": 10, "name": "cat"}],
        "annotations": [
            {"id": v, "video_id": v, "category_id": (10, 30)[v % 2], "iscrowd": 0, "areas": [20, 20]}
            | {"segmentations": [rle(v), rle(v + 1)]}
            for v in (1, 2, 3, 4, 5)
        ],
    }


def tubes_of(video: int) -> list[Tube]:
    """A good, a shifted and a wrong tube; classes contiguous (cat 0, dog 1)."""
    right = video % 2
    return [
        Tube(right, 0.5 + video / 20, [rle(video), rle(video + 1)]),
        Tube(right, 0.5, [rle(video + 1), None]),
        Tube(1 - right, 0.9, [rle(0), rle(0)]),
    ]


@pytest.fixture
def metadata(tmp_path):
    json_file = tmp_path / "gt.json"
    json_file.write_text(json.dumps(ground_truth()))
    yield MetadataCatalog.get(NAME).set(json_file=str(json_file), evaluator_type="ytvis")
    MetadataCatalog.pop(NAME)


def run(videos=(1, 2, 3, 4, 5), tubes_of=tubes_of, **arguments) -> dict:
    evaluator = YTVISEvaluator(NAME, **arguments)
    evaluator.reset()
    for video in videos:
        evaluator.process([{"video_id": video, "length": 2}], [{"tubes": tubes_of(video)}])
    return evaluator.evaluate()


def test_scores_and_files(metadata, tmp_path):
    scores = run(output_dir=str(tmp_path / "inference"))
    results = json.loads((tmp_path / "inference" / "results.json").read_text())
    assert [entry["category_id"] for entry in results[:3]] == [30, 30, 10]
    metrics = evaluate_tracks(ground_truth(), results)
    assert list(scores) == ["segm"]
    expected = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AP-cat", "AP-dog"]
    assert list(scores["segm"]) == expected
    assert scores["segm"]["AP"] == 100 * metrics.stats["AP"] > 0
    assert scores["segm"]["AP-dog"] == 100 * metrics.per_category[30]["AP"]
    assert math.isnan(scores["segm"]["APl"])
    with zipfile.ZipFile(tmp_path / "inference" / "submission.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert json.loads(archive.read("results.json")) == results
    assert sorted(path.name for path in (tmp_path / "inference").iterdir()) == ["results.json", "submission.zip"]


def test_metadata_of_the_catalog_are_used(metadata):
    metadata.set(thing_classes=["Cat", "Dog"], thing_dataset_id_to_contiguous_id={30: 0, 10: 1})
    assert {"AP-Cat", "AP-Dog"} <= set(run()["segm"])


@pytest.mark.parametrize("annotations", [None, [], "missing"])
def test_without_ground_truth_the_submission_is_written(metadata, tmp_path, caplog, annotations):
    data = ground_truth() | {"annotations": annotations}
    if annotations == "missing":
        del data["annotations"]
    (tmp_path / "gt.json").write_text(json.dumps(data))
    assert run(output_dir=str(tmp_path / "out")) == {}
    assert "without ground truth" in caplog.text
    assert (tmp_path / "out" / "results.json").exists() and (tmp_path / "out" / "submission.zip").exists()


def test_the_archive_can_be_left_out(metadata, tmp_path):
    run(output_dir=str(tmp_path), submission=False)
    assert (tmp_path / "results.json").exists() and not (tmp_path / "submission.zip").exists()


def test_a_model_that_finds_nothing(metadata, tmp_path, caplog):
    scores = run(videos=(), output_dir=str(tmp_path / "out"))
    assert scores["segm"]["AP"] == 0
    assert "found nothing" in caplog.text
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


def test_hq_tasks(metadata):
    metadata.set(evaluation_tasks=("tube_mask", "tube_boundary"))

    def nearly_right(video: int) -> list[Tube]:
        return [Tube(video % 2, 0.5, [rle(video), rle(video + 2)])]

    scores = run(tubes_of=nearly_right)
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "AP-cat", "AP-dog"]
    assert {task: list(values) for task, values in scores.items()} == {"tube_mask": names, "tube_boundary": names}
    assert 0 < scores["tube_boundary"]["AP"] < scores["tube_mask"]["AP"]
    assert scores["tube_mask"]["AP"] == run(tubes_of=nearly_right, tasks=("segm",))["segm"]["AP"]


def test_short_and_long_videos(metadata):
    metadata.set(long_video_ids=[4, 5])
    scores = run()["segm"]
    assert scores["AP_SL"] == (scores["AP_S"] + scores["AP_L"]) / 2
    assert scores["AP_L"] != scores["AP_S"]


def test_occlusion_levels_are_added(metadata, tmp_path):
    data = ground_truth()
    for annotation in data["annotations"]:
        annotation["occlusion"] = ["no_occlusion", "slight_occlusion"]
    (tmp_path / "gt.json").write_text(json.dumps(data))
    scores = run()["segm"]
    assert scores["APo_light"] > 0 and math.isnan(scores["APo_heavy"])


def test_errors(metadata, tmp_path):
    with pytest.raises(ConfigError, match="evaluation task 'bbox'"):
        YTVISEvaluator(NAME, tasks=("bbox",))
    evaluator = YTVISEvaluator(NAME)
    with pytest.raises(ValueError, match="video 1: the model returned a tube of 2 frames"):
        evaluator.process([{"video_id": 1, "length": 3}], [{"tubes": tubes_of(1)}])
    evaluator.reset()
    evaluator.process([{"video_id": 1}], [{"tubes": [Tube(2, 0.5, [None, None])]}])
    with pytest.raises(ConfigError, match=r"predicts class 2.*has 2 classes"):
        evaluator.evaluate()
    (tmp_path / "gt.json").unlink()
    with pytest.raises(DataError, match="does not exist"):
        YTVISEvaluator(NAME)


def one_process(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    MetadataCatalog.get(NAME).set(json_file=f"{folder}/gt.json")
    share = ((1, 2, 3), (4, 5))[rank]
    scores = run(videos=share, output_dir=f"{folder}/two")
    with open(f"{folder}/scores{rank}.json", "w") as file:
        json.dump(scores, file)
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(metadata, tmp_path):
    one = run(output_dir=str(tmp_path / "one"))
    mp.spawn(one_process, (2, str(tmp_path)), nprocs=2)
    two = json.loads((tmp_path / "scores0.json").read_text())
    np.testing.assert_array_equal(list(two["segm"].values()), list(one["segm"].values()))
    assert json.loads((tmp_path / "scores1.json").read_text()) == {}
    assert (tmp_path / "two" / "results.json").read_bytes() == (tmp_path / "one" / "results.json").read_bytes()
