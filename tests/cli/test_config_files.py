"""Config files and keys with a mistake: one ConfigError that names the file or the key."""

import pytest

import projects
from vis_core.config import merge_config
from vis_core.engine import VideoTrainer
from vis_core.engine.schedule import check_schedule
from vis_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: the file is empty"),
        ("- MODEL\n", "a.yaml: expected sections (MODEL: ...), found list"),
        ("MODEL:\n", "a.yaml: MODEL: a section, which needs keys below it; found None"),
        ("MODEL: {ROI_HEADS: big}\n", "a.yaml: MODEL.ROI_HEADS: a section, which needs keys below it; found big"),
        ("MODEL: {1: 2}\n", "a.yaml: MODEL.1: a key has to be a text"),
        ("_BASE_: a.yaml\n", "a.yaml: _BASE_: a.yaml leads back to a file that is being read"),
        ("_BASE_: b.yaml\n", "b.yaml: _BASE_: a.yaml leads back to a file that is being read"),
        ("_BASE_: nowhere.yaml\n", "a.yaml: _BASE_: no such file: FOLDER/nowhere.yaml"),
        ("_BASE_: [good.yaml, 5]\n", "a.yaml: _BASE_: expected the path of a config file, found 5"),
        ("_BASE_: broken.yaml\n", "broken.yaml: not valid yaml: "),
    ],
)
def test_files(text, message, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\n")
    (tmp_path / "good.yaml").write_text("VERSION: 2\n")
    (tmp_path / "broken.yaml").write_text("MODEL: {")
    with pytest.raises(ConfigError) as error:
        merge_config(projects.default_config(), tmp_path / "a.yaml")
    assert str(error.value).startswith(f"{tmp_path}/{message.replace('FOLDER', str(tmp_path))}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DATASETS.TEST", "my_val", ("my_val",)),
        ("DATASETS.TEST", "('my_val', 'b')", ("my_val", "b")),
        ("DATASETS.TEST", "()", ()),
        ("MODEL.ROI_HEADS.IN_FEATURES", "p2", ["p2"]),
        ("MODEL.WEIGHTS", "a.pth", "a.pth"),
    ],
)
def test_a_plain_name_is_a_tuple_of_one(key, value, expected):
    cfg = merge_config(projects.default_config(), opts=[key, value])
    for part in key.split("."):
        cfg = cfg[part]
    assert cfg == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TEST", "(my_val,)", "DATASETS.TEST (my_val,): takes several values, written as \"('a', 'b')\""),
        ("SOLVER.STEPS", "3", 'SOLVER.STEPS 3: takes several values, written as "(1, 2)"'),
        ("MODEL.ROI_HEADS", "3", "MODEL.ROI_HEADS is a section: a key below it is needed"),
        ("SOLVER.MAX_ITER.N", "3", "unknown config key SOLVER.MAX_ITER.N (did you mean SOLVER.MAX_ITER?)"),
    ],
)
def test_values(key, value, message):
    with pytest.raises(ConfigError) as error:
        merge_config(projects.default_config(), opts=[key, value])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "MODEL.ROI_HEADS.NAME: no 'Res5ROIHeads' is known; it is Detectron2's default: does the config file lack"),
        (["MODEL.META_ARCHITECTURE", "MaskTrackRCN"], "no 'MaskTrackRCN' is known (did you mean 'MaskTrackRCNN'?)"),
        (["MODEL.BACKBONE.NAME", "build_resnet_bckbone"], "MODEL.BACKBONE.NAME: no 'build_resnet_bckbone' is known"),
    ],
)
def test_unknown_parts_of_a_model(options, message, monkeypatch):
    # As the bundled subset is, wherever this runs.
    from detectron2.modeling import ROI_HEADS_REGISTRY

    monkeypatch.delitem(ROI_HEADS_REGISTRY._obj_map, "Res5ROIHeads", raising=False)
    cfg = merge_config(projects.default_config(), opts=["MODEL.DEVICE", "cpu", *options])
    with pytest.raises(ConfigError) as error:
        VideoTrainer.build_model(cfg)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER: 0, but training needs at least 1"),
        (["SOLVER.CHECKPOINT_PERIOD", "0"], "SOLVER.CHECKPOINT_PERIOD: 0, but training needs at least 1"),
        (["SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "(3,)"], "SOLVER.STEPS: (3,): the training ends at 3"),
        (["SOLVER.STEPS", "(30, 20)"], "SOLVER.STEPS: (30, 20): every step has to be greater"),
        (["SOLVER.STEPS", "(0.5,)"], "SOLVER.STEPS: (0.5,): a step is an iteration"),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "SOLVER.LR_SCHEDULER_NAME: 'Cosine' is not one of WarmupMultiStepLR"),
        (["SOLVER.WARMUP_METHOD", "slow"], "SOLVER.WARMUP_METHOD: 'slow' is not one of linear, constant"),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "2.0"],
            "SOLVER.BASE_LR_END: 2.0 does not lie between 0 and SOLVER.BASE_LR",
        ),
    ],
)
def test_schedules(options, message):
    with pytest.raises(ConfigError) as error:
        check_schedule(merge_config(projects.default_config(), opts=options))
    assert str(error.value).startswith(message)


def test_steps_beyond_the_end_are_allowed():
    cfg = merge_config(projects.default_config(), opts=["SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "(2, 5)"])
    check_schedule(cfg)


def test_the_trainer_checks_the_schedule():
    with pytest.raises(ConfigError, match=r"SOLVER\.MAX_ITER"):
        VideoTrainer.build_lr_scheduler(merge_config(projects.default_config(), opts=["SOLVER.MAX_ITER", "0"]), None)
