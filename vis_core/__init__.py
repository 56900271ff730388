"""Video instance segmentation on Detectron2: data, tubes, tracking, evaluation and engine.

Importing this package makes ``detectron2`` importable (see :mod:`vis_core.host`): the official
package where it is installed, our bundled subset of its API otherwise.
"""

from vis_core.host import ensure_detectron2

__version__ = "0.1.0"

ensure_detectron2()
