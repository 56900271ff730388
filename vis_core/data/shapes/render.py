"""Rendering of ShapesVIS frames: objects are painted from the lowest to the highest in small windows."""

from __future__ import annotations

import cv2
import numpy as np

from .scene import TEXTURE_REACH, Scene, SceneObject

_SUPERSAMPLING = 4
_SUBPIXEL_BITS = 4

Window = tuple[int, int, int, int]  # x0, y0, x1, y1, may reach outside the frame


def render_frame(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render one frame of a scene with N objects.

    Returns:
        image: (H, W, 3) uint8 RGB.
        owner: (H, W) int16, the index of the object that is seen in each pixel, -1 for background.
        areas: (N,) int64, pixels that each object would cover in this frame if nothing hid it.
    """
    height, width = scene.config.height, scene.config.width
    x, y = scene.pan[frame]
    shift = np.array([[1, 0, -x], [0, 1, -y]])
    image = cv2.warpAffine(scene.background, shift, (width, height), flags=cv2.INTER_LINEAR)
    owner = np.full((height, width), -1, dtype=np.int16)
    areas = np.zeros(len(scene.objects), dtype=np.int64)
    for index, obj in enumerate(scene.objects):
        areas[index] = _paint(image, owner, index, obj, frame, scene)
    dy, dx = scene.grain_offset[frame]
    image *= scene.exposure[frame]
    image += scene.grain[dy : dy + height, dx : dx + width]
    return np.clip(image, 0, 255).astype(np.uint8), owner, areas


def _paint(image: np.ndarray, owner: np.ndarray, index: int, obj: SceneObject, frame: int, scene: Scene) -> int:
    """Paint one object and its shadow, in place; returns the object's unhidden area within the frame."""
    motion = obj.motion
    center, radius = motion.center[frame], float(motion.radius[frame])
    cos, sin = np.cos(motion.angle[frame]), np.sin(motion.angle[frame])
    pose = radius * np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, motion.stretch[frame]])

    # Room for the outline (within 1.2 radii) and for the shadow, which is thrown 0.2 radii away and blurred.
    window = _window(center, radius * 1.65 + 4)
    inside = _clip(window, image.shape)
    if inside is None:
        return 0
    origin = center - window[:2]
    alpha = _coverage(obj.contours, pose, origin, window)  # (h, w) float32
    blurred = cv2.GaussianBlur(alpha, (0, 0), max(radius * 0.12, 1.0))
    crop = (slice(inside[1] - window[1], inside[3] - window[1]), slice(inside[0] - window[0], inside[2] - window[0]))
    patch = image[inside[1] : inside[3], inside[0] : inside[2]]
    if scene.config.shadows:
        dx, dy = -0.2 * radius * scene.light
        size = (alpha.shape[1], alpha.shape[0])
        shadow = cv2.warpAffine(blurred, np.array([[1, 0, dx], [0, 1, dy]]), size, flags=cv2.INTER_LINEAR)
        patch *= 1 - 0.45 * shadow[crop][..., None]
    surface = (
        _surface(obj.texture, pose, origin, window)[crop]
        * _shading(blurred, origin, radius, scene.light)[crop][..., None]
    )
    patch += alpha[crop][..., None] * (surface - patch)

    covered = alpha[crop] >= 0.5
    owner[inside[1] : inside[3], inside[0] : inside[2]][covered] = index
    return int(np.count_nonzero(covered))


def _window(center: np.ndarray, reach: float) -> Window:
    low, high = np.floor(center - reach).astype(int), np.ceil(center + reach).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _clip(window: Window, shape: tuple[int, ...]) -> Window | None:
    x0, y0, x1, y1 = max(window[0], 0), max(window[1], 0), min(window[2], shape[1]), min(window[3], shape[0])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _coverage(contours: list[np.ndarray], pose: np.ndarray, origin: np.ndarray, window: Window) -> np.ndarray:
    """Share of each pixel that the outline covers, (h, w) float32 in [0, 1], by supersampling."""
    s = _SUPERSAMPLING
    height, width = window[3] - window[1], window[2] - window[0]
    canvas = np.zeros((height * s, width * s), dtype=np.uint8)
    # fillPoly puts integer coordinates on pixel centres, hence the half pixel.
    points = [((c @ pose.T + origin) * s - 0.5) * 2**_SUBPIXEL_BITS for c in contours]
    cv2.fillPoly(canvas, [np.round(p).astype(np.int32) for p in points], 255, cv2.LINE_8, shift=_SUBPIXEL_BITS)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _surface(texture: np.ndarray, pose: np.ndarray, origin: np.ndarray, window: Window) -> np.ndarray:
    """The object's texture moved into the window, (h, w, 3) float32."""
    scale = 2 * TEXTURE_REACH / len(texture)
    linear = pose * scale
    offset = origin - pose @ np.array([TEXTURE_REACH, TEXTURE_REACH])
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    size = (window[2] - window[0], window[3] - window[1])
    return cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _shading(blurred: np.ndarray, origin: np.ndarray, radius: float, light: np.ndarray) -> np.ndarray:
    """Brightness factor (h, w): a soft fall-off away from the light and a bevel along the rim."""
    height, width = blurred.shape
    along_x = (np.arange(width, dtype=np.float32) + 0.5 - origin[0]) * np.float32(light[0] / radius)
    along_y = (np.arange(height, dtype=np.float32) + 0.5 - origin[1]) * np.float32(light[1] / radius)
    slope = light[0] * cv2.Sobel(blurred, cv2.CV_32F, 1, 0) + light[1] * cv2.Sobel(blurred, cv2.CV_32F, 0, 1)
    bevel = np.clip(slope * np.float32(-0.16 * radius), -0.4, 0.4)
    return 1 + np.float32(0.16) * (along_x[None, :] + along_y[:, None]) + bevel
