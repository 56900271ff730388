"""Everything that is drawn by lot once per ShapesVIS video: objects, looks, paths, ground, light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import motion as mo
from . import textures as tx
from .config import ShapesConfig
from .outlines import CATEGORIES, outline

# Half the side of an object's texture in local units; outlines stay within it.
TEXTURE_REACH = 1.3


@dataclass
class SceneObject:
    """Category (index into CATEGORIES), look and poses. Later objects of a scene lie above earlier ones."""

    category: int
    contours: list[np.ndarray]
    texture: np.ndarray  # (S, S, 3) float32, spans [-TEXTURE_REACH, TEXTURE_REACH] in both axes
    motion: mo.Motion


@dataclass
class Scene:
    """One video before rendering."""

    config: ShapesConfig
    objects: list[SceneObject]
    background: np.ndarray  # (H + 2 margin, W + 2 margin, 3) float32
    pan: np.ndarray  # (T, 2) offset of the frame's corner in the background
    light: np.ndarray  # (2,) unit vector towards the light
    exposure: np.ndarray  # (T,) factor
    grain: np.ndarray  # (H + 32, W + 32, 3) float32 sensor noise
    grain_offset: np.ndarray  # (T, 2) int

    def __len__(self) -> int:
        return self.config.length


def make_scene(config: ShapesConfig, index: int) -> Scene:
    """Draw video ``index`` of the data set. It depends on the seed and the index alone, not on other videos."""
    rng = np.random.default_rng([config.seed, index])
    height, width, length, difficulty = config.height, config.width, config.length, config.difficulty
    unit = min(height, width)

    most = config.min_objects + round((config.max_objects - config.min_objects) * (0.5 + 0.5 * difficulty))
    motions = [
        mo.object_motion(rng, length, height, width, difficulty)
        for _ in range(rng.integers(config.min_objects, most + 1))
    ]
    mo.add_meetings(rng, motions, difficulty)
    for motion in motions:
        mo.add_exits(rng, motion, height, width, difficulty)
    objects = _dress(rng, config, motions)

    margin = round(0.25 * unit)
    pan_speed = unit * rng.uniform(0.0, 0.01 + 0.02 * difficulty)
    pan = mo.wander(rng, length, np.array([0.6 * margin] * 2), pan_speed)
    toward = rng.uniform(-0.85, -0.15) * np.pi  # from above
    return Scene(
        config=config,
        objects=objects,
        background=tx.background_texture(rng, height + 2 * margin, width + 2 * margin, unit, difficulty),
        pan=np.clip(margin + pan, 0, 2 * margin),
        light=np.array([np.cos(toward), np.sin(toward)]),
        exposure=1
        + (0.02 + 0.1 * difficulty) * np.sin(rng.uniform(0.1, 0.4) * np.arange(length) + rng.uniform(0, 6.3)),
        grain=rng.normal(0, 1.5 + 2.5 * difficulty, (height + 32, width + 32, 3)).astype(np.float32),
        grain_offset=rng.integers(0, 33, (length, 2)),
    )


def _dress(rng: np.random.Generator, config: ShapesConfig, motions: list[mo.Motion]) -> list[SceneObject]:
    """Give every path a category and a look; some objects copy an earlier one's and become its look-alike."""
    looks: list[tuple[int, str, tx.Palette]] = []
    hue = rng.random()
    objects = []
    for motion in motions:
        if looks and rng.random() < 0.1 + 0.5 * config.difficulty**1.5:
            category, kind, palette = looks[rng.integers(len(looks))]
            palette = tx.jitter_palette(rng, palette, 14 - 10 * config.difficulty)
        else:
            hue += 0.381966 + rng.normal(0, 0.04)  # the golden angle keeps hues of one video apart
            category = int(rng.integers(len(CATEGORIES)))
            kind = "plain" if config.texture == "plain" else str(rng.choice(tx.PATTERNS))
            palette = tx.object_palette(rng, hue)
        looks.append((category, kind, palette))
        size = max(16, round(2 * TEXTURE_REACH * float(motion.radius.max())))
        objects.append(
            SceneObject(
                category=category,
                contours=outline(CATEGORIES[category], rounded=config.corners == "round"),
                texture=tx.object_texture(rng, kind, size, palette),
                motion=motion,
            )
        )
    return objects
