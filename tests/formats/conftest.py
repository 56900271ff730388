import vis_core  # noqa: F401  (makes detectron2 importable)
