"""ShapesVIS in Detectron2's catalogs."""

from __future__ import annotations

from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from vis_core.data.datasets_root import datasets_root

from .config import ShapesConfig
from .generate import generate_shapes, shapes_paths
from .outlines import CATEGORIES

# Mild on purpose: a small model is to learn it on a CPU in minutes. Harder sets:
# register_shapes(name, ShapesConfig(difficulty=0.8), root).
SPLITS = {
    "shapesvis_train": ShapesConfig(num_videos=1000, length=10, seed=1, difficulty=0.2),
    "shapesvis_val": ShapesConfig(num_videos=30, length=20, seed=2, difficulty=0.2),
    # Exact corners, for work on the quality of masks: evaluated by their boundaries, too.
    "shapesvis_sharp_train": ShapesConfig(num_videos=1000, length=10, seed=1, difficulty=0.2, corners="sharp"),
    "shapesvis_sharp_val": ShapesConfig(num_videos=30, length=20, seed=2, difficulty=0.2, corners="sharp"),
}
_COLORS = [(230, 90, 70), (80, 160, 230), (240, 190, 60), (150, 100, 210), (90, 190, 110), (240, 130, 190)]


def register_shapes(name: str, config: ShapesConfig, root: str | Path) -> None:
    """Register a generated data set. Nothing is written before it is first loaded through the DatasetCatalog.

    With ``corners="sharp"`` the evaluator computes what HQ-YTVIS reports: Tube-Mask AP and Tube-Boundary AP.
    """
    json_file, image_root = shapes_paths(root, config)

    def load() -> list[dict]:
        from vis_core.data.records import load_ytvis_json

        generate_shapes(root, config)
        return load_ytvis_json(str(json_file), str(image_root), name)

    DatasetCatalog.register(name, load)
    metadata = MetadataCatalog.get(name).set(
        json_file=str(json_file),
        image_root=str(image_root),
        thing_classes=list(CATEGORIES),
        thing_colors=_COLORS,
        thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(CATEGORIES))},
        evaluator_type="ytvis",
        vis_format="ytvis",
    )
    if config.corners == "sharp":
        metadata.set(evaluation_tasks=("tube_mask", "tube_boundary"))


def register_shapesvis(root: str | Path | None = None) -> None:
    """Register all of :data:`SPLITS` under ``root``, ``$DETECTRON2_DATASETS/shapesvis`` if None."""
    if root is None:
        root = datasets_root() / "shapesvis"
    for name, config in SPLITS.items():
        register_shapes(name, config, root)
