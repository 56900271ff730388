"""``vis train``: what goes into its log."""

import logging

import pytest
from detectron2.engine import default_argument_parser
from detectron2.utils.logger import setup_logger

from vis_core.cli.train import setup

CONFIG = "configs/masktrack_rcnn/shapesvis_tiny.yaml"


@pytest.fixture
def loggers():
    """Whatever is done to the loggers of a run is undone afterwards."""
    found = [logging.getLogger(name) for name in ("detectron2", "fvcore", "vis_core", "projects")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in found]
    setup_logger.cache_clear()
    for logger in found:
        logger.handlers = []
    yield
    setup_logger.cache_clear()
    for logger, (handlers, level, propagate) in zip(found, before):
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate
        logger.manager._clear_cache()


def test_the_log_has_every_line_of_this_project_once(loggers, tmp_path, capsys):
    options = ["--config-file", CONFIG, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    args = default_argument_parser().parse_args(options)
    for _ in range(2):
        setup(args)
    names = ("vis_core.data.loader", "projects.masktrack_rcnn.model", "detectron2.engine")
    for name in names:
        logging.getLogger(name).info("said by %s", name)
    log, shown = (tmp_path / "log.txt").read_text(), capsys.readouterr().out
    for name in names:
        assert log.count(f"said by {name}") == shown.count(f"said by {name}") == 1, name
