"""Our own subset of the Detectron2 API (https://github.com/facebookresearch/detectron2), in pure Python.

Names, signatures, config keys, defaults and checkpoint names are those of the official package 0.6; the code is not.
Asking for something that the subset lacks raises an ImportError that says so (:mod:`detectron2._subset`).
"""

from detectron2 import _subset

_subset.install()
__getattr__ = _subset.module_getattr(__name__)

from detectron2.utils.env import setup_environment  # noqa: E402

setup_environment()

__version__ = "0.6"
