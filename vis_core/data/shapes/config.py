"""What a ShapesVIS data set looks like, and the name under which it is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from vis_core.errors import ConfigError

# Part of every cache name: raise it whenever the same parameters begin to give other pixels or other json.
GENERATOR_VERSION = 1


@dataclass(frozen=True)
class ShapesConfig:
    """Parameters of one generated split. Equal parameters give equal files.

    Attributes:
        num_videos: number of videos. Video i does not depend on it, so a small set is a prefix of a larger one.
        length: frames per video.
        height, width: frame size in pixels.
        seed: different seeds give unrelated videos; a training and a validation split differ in this.
        difficulty: 0 (slow, few, well separated objects on a calm background) to 1 (fast, small, crossing,
            leaving, look-alike objects in clutter).
        min_objects, max_objects: tracks per video; the upper end is reached at difficulty 1 only.
        corners: "round", or "sharp" for outlines with exact corners (fine structure for mask-quality work).
        texture: "mixed" patterns, or "plain" colours.
        shadows: objects drop soft shadows on what lies below them.
        image_format: "jpg", or "png" for lossless frames.
    """

    num_videos: int = 200
    length: int = 12
    height: int = 128
    width: int = 192
    seed: int = 0
    difficulty: float = 0.4
    min_objects: int = 2
    max_objects: int = 6
    corners: str = "round"
    texture: str = "mixed"
    shadows: bool = True
    image_format: str = "jpg"

    def __post_init__(self) -> None:
        for name in ("num_videos", "length", "min_objects"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ShapesConfig.{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("height", "width"):
            if getattr(self, name) < 32:
                raise ConfigError(f"ShapesConfig.{name}: must be at least 32 pixels, got {getattr(self, name)}")
        if self.seed < 0:
            raise ConfigError(f"ShapesConfig.seed: must not be negative, got {self.seed}")
        if not 0 <= self.difficulty <= 1:
            raise ConfigError(f"ShapesConfig.difficulty: must lie in [0, 1], got {self.difficulty}")
        if not self.min_objects <= self.max_objects <= 100:
            raise ConfigError(
                f"ShapesConfig.max_objects: must lie in [min_objects = {self.min_objects}, 100], got {self.max_objects}"
            )
        for name, known in (
            ("corners", ("round", "sharp")),
            ("texture", ("mixed", "plain")),
            ("image_format", ("jpg", "png")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"ShapesConfig.{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )

    def cache_name(self) -> str:
        """Folder name that tells this configuration from every other: readable sizes and a hash of all fields."""
        text = json.dumps({"version": GENERATOR_VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.num_videos}x{self.length}_{self.height}x{self.width}_{digest}"
