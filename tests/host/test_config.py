import copy
import json
import pickle

import pytest
import yaml
from detectron2.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg
from omegaconf import OmegaConf


def test_defaults_are_copies():
    a, b = get_cfg(), get_cfg()
    a.MODEL.RPN.IN_FEATURES.append("res5")
    a.SEED = 3
    assert b.MODEL.RPN.IN_FEATURES == ["res4"] and b.SEED == -1


def test_a_new_key_can_be_merged_and_a_wrong_one_cannot(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.MINE = CfgNode({"WIDTH": 3})
    (tmp_path / "a.yaml").write_text("MODEL:\n  MINE:\n    WIDTH: 5\n")
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    assert cfg.MODEL.MINE.WIDTH == 5
    (tmp_path / "b.yaml").write_text("VERSION: 2\nMODEL:\n  NOT_MINE: 5\n")
    with pytest.raises(KeyError, match="NOT_MINE"):
        cfg.merge_from_file(str(tmp_path / "b.yaml"))


def test_value_types():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.STEPS", "[1, 2]", "SOLVER.WEIGHT_DECAY_BIAS", "0.5", "INPUT.CROP.SIZE", "(1, 2)"])
    assert cfg.SOLVER.STEPS == (1, 2) and cfg.SOLVER.WEIGHT_DECAY_BIAS == 0.5 and cfg.INPUT.CROP.SIZE == [1, 2]
    with pytest.raises(ValueError):
        cfg.merge_from_list(["SOLVER.BASE_LR", "1"])  # an int for a float


def test_files_without_version(tmp_path, caplog):
    (tmp_path / "new.yaml").write_text("SEED: 4\n")
    cfg = get_cfg()
    with caplog.at_level("WARNING", logger="detectron2"):
        cfg.merge_from_file(str(tmp_path / "new.yaml"))
    assert cfg.SEED == 4
    assert any("VERSION" in r.getMessage() for r in caplog.records)


def test_safe_loading_refuses_python_tags(tmp_path):
    (tmp_path / "a.yaml").write_text("VERSION: 2\nSEED: !!python/object/apply:eval ['5 + 6']\n")
    with pytest.raises(yaml.constructor.ConstructorError):
        get_cfg().merge_from_file(str(tmp_path / "a.yaml"), allow_unsafe=False)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    assert cfg.SEED == 11


def test_freezing_and_computed_keys():
    cfg = get_cfg()
    cfg.freeze()
    assert cfg.is_frozen() and cfg.MODEL.is_frozen()
    with pytest.raises(AttributeError):
        cfg.SEED = 1
    cfg.COMPUTED_X = 5
    cfg.COMPUTED_X = 5
    with pytest.raises(KeyError):
        cfg.COMPUTED_X = 6
    cfg.defrost()
    cfg.SEED = 1


def test_a_dump_merges_back(tmp_path):
    cfg = get_cfg()
    cfg.SOLVER.STEPS = (1, 2, 3)
    (tmp_path / "a.yaml").write_text(cfg.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "a.yaml"))
    assert again.SOLVER.STEPS == (1, 2, 3) and json.dumps(again) == json.dumps(cfg)


def test_copies_and_pickles():
    cfg = get_cfg()
    cfg.SEED = 9
    assert copy.deepcopy(cfg) == cfg
    assert pickle.loads(pickle.dumps(cfg)) == cfg


def test_global_cfg_is_updated_in_place():
    before = dict(global_cfg)
    try:
        cfg = get_cfg()
        cfg.SEED = 12
        set_global_cfg(cfg)
        assert global_cfg.SEED == 12
        set_global_cfg(CfgNode({"ONLY": 1}))
        assert dict(global_cfg) == {"ONLY": 1}
    finally:
        set_global_cfg(CfgNode(before))


class Base:
    @configurable
    def __init__(self, width, *, depth=2, name="x"):
        self.arguments = (width, depth, name)

    @classmethod
    def from_config(cls, cfg, extra=0):
        return {"width": cfg.SEED + extra, "depth": 7}


class OverridesConfig(Base):
    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "name": "sub"}


class OverridesInit(Base):
    def __init__(self, cfg, extra):
        super().__init__(cfg, extra=extra, name="own init")


class TakesAnything(Base):
    @classmethod
    def from_config(cls, cfg, *args, **kwargs):
        return {"width": len(args), "name": ",".join(kwargs)}


def test_configurable_class():
    cfg = get_cfg()
    cfg.SEED = 5
    assert Base(1, depth=3).arguments == (1, 3, "x")
    assert Base(width=1).arguments == (1, 2, "x")
    assert Base(cfg).arguments == Base(cfg=cfg).arguments == (5, 7, "x")
    assert Base(cfg, 10).arguments == Base(cfg, extra=10).arguments == (15, 7, "x")
    assert Base(cfg, depth=1, name="y").arguments == (5, 1, "y")
    assert OverridesConfig(cfg).arguments == (5, 7, "sub")
    assert OverridesInit(cfg, 2).arguments == (7, 7, "own init")
    assert TakesAnything(cfg, 1, 2, a=3, b=4).arguments == (2, 2, "a,b")


def test_configurable_with_omegaconf():
    assert Base(OmegaConf.create({"SEED": 4})).arguments == (4, 7, "x")


def test_configurable_function():
    def from_config(cfg, extra=0):
        return {"a": cfg.SEED + extra, "b": 2}

    @configurable(from_config=from_config)
    def function(a, b, c=3):
        """Adds."""
        return [a, b, c]

    cfg = get_cfg()
    cfg.SEED = 5
    assert function(1, 2) == [1, 2, 3]
    assert function(cfg) == [5, 2, 3]
    assert function(cfg, extra=1, c=9) == [6, 2, 9]
    assert function.from_config is from_config
    assert function.__name__ == "function" and function.__doc__ == "Adds."


def test_wrong_uses_of_configurable():
    class NoFromConfig:
        @configurable
        def __init__(self, a):
            pass

    class NotAClassmethod:
        @configurable
        def __init__(self, a):
            pass

        def from_config(self, cfg):
            return {"a": 1}

    class WrongParameter:
        @configurable
        def __init__(self, a):
            pass

        @classmethod
        def from_config(cls, config):
            return {"a": 1}

    with pytest.raises(AttributeError):
        NoFromConfig(get_cfg())
    with pytest.raises(TypeError):
        NotAClassmethod(get_cfg())
    with pytest.raises(TypeError):
        WrongParameter(get_cfg())
    with pytest.raises(AssertionError):

        @configurable
        def function(a):
            pass
