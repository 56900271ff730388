"""Lets every test import ``detectron2``, whoever provides it, however its own imports are ordered."""

import vis_core  # noqa: F401
