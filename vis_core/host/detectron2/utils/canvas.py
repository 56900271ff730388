"""Lines, shapes and letters over an image.

Coordinates are pixels of the unscaled image; colours are whatever matplotlib takes.
"""

import matplotlib.colors as mplc
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle

from .vis_image import VisImage

__all__ = ["Canvas", "lighter"]


def lighter(color, factor: float) -> tuple[float, float, float]:
    """Move a colour towards white (factor > 0, up to 1) or black (down to -1)."""
    rgb = np.array(mplc.to_rgb(color))
    target = 1.0 if factor > 0 else 0.0
    return tuple(rgb + (target - rgb) * abs(factor))


class Canvas:
    """Draws single things; every ``draw_*`` adds to the output and returns it."""

    def __init__(self, output: VisImage):
        self.output = output
        self._default_font_size = max(np.sqrt(output.height * output.width) // 90, 10 // output.scale)

    def get_output(self) -> VisImage:
        """The image with all that was drawn."""
        return self.output

    def draw_text(
        self,
        text: str,
        position: tuple[float, float],
        *,
        font_size: float | None = None,
        color="g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write on a dark box.

        Args:
            position: (x, y) of the top, at the side or middle that ``horizontal_alignment`` names.
            font_size: in points at scale 1.
            rotation: degrees, counter-clockwise.
        """
        font_size = self._default_font_size if font_size is None else font_size
        # dark letters would vanish on the dark box
        rgb = np.maximum(mplc.to_rgb(color), 0.2)
        rgb[rgb.argmax()] = max(0.8, rgb.max())
        self.output.ax.text(
            *position,
            text,
            size=font_size * self.output.scale,
            family="sans-serif",
            bbox={"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"},
            verticalalignment="top",
            horizontalalignment=horizontal_alignment,
            color=rgb,
            zorder=10,
            rotation=rotation,
        )
        return self.output

    def draw_box(self, box_coord, alpha: float = 0.5, edge_color="g", line_style: str = "-") -> VisImage:
        """Draw the outline of (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = box_coord
        line_width = max(self._default_font_size / 4, 1) * self.output.scale
        self.output.ax.add_patch(
            Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=edge_color,
                linewidth=line_width,
                alpha=alpha,
                linestyle=line_style,
            )
        )
        return self.output

    def draw_circle(self, circle_coord, color, radius: float = 3) -> VisImage:
        """Draw a disc around (x, y)."""
        self.output.ax.add_patch(Circle(tuple(circle_coord), radius=radius, fill=True, color=color))
        return self.output

    def draw_line(self, x_data, y_data, color, linestyle: str = "-", linewidth: float | None = None) -> VisImage:
        """Draw a line through the points (x_data[i], y_data[i])."""
        linewidth = max(self._default_font_size / 3, 1) if linewidth is None else linewidth
        self.output.ax.add_line(
            Line2D(x_data, y_data, linewidth=linewidth * self.output.scale, color=color, linestyle=linestyle)
        )
        return self.output

    def draw_polygon(self, segment, color, edge_color=None, alpha: float = 0.5) -> VisImage:
        """Fill a polygon, (P, 2) or flat; its edge is a darker tone of the colour unless given."""
        if edge_color is None:
            edge_color = lighter(color, -0.3)
        self.output.ax.add_patch(
            Polygon(
                np.asarray(segment).reshape(-1, 2),
                fill=True,
                facecolor=(*mplc.to_rgb(color), alpha),
                edgecolor=(*mplc.to_rgb(edge_color), 1.0),
                linewidth=max(self._default_font_size // 15 * self.output.scale, 1),
            )
        )
        return self.output

    def _blend(self, opacity: np.ndarray, rgb) -> None:
        """Lay a colour over the image with an opacity for each pixel, (H, W) in [0, 1]."""
        overlay = np.empty((*opacity.shape, 4), dtype=np.float32)
        overlay[:, :, :3] = rgb
        overlay[:, :, 3] = opacity
        self.output.lay(overlay)
