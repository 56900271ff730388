"""An image to draw on with matplotlib."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox

__all__ = ["VisImage"]


class VisImage:
    """A figure without margins that shows one image; the coordinates of ``ax`` are the image's pixels.

    Args:
        img: (H, W, 3) RGB, uint8 or in [0, 1].
        scale: size of the output relative to the image.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0):
        self.img = img
        self.scale = scale
        self.height, self.width = img.shape[:2]
        self.fig = Figure(frameon=False)
        self.dpi = self.fig.get_dpi()
        # the figure's size in pixels is rounded down: a bit more keeps it from losing one to rounding
        self.fig.set_size_inches((self.width * scale + 0.01) / self.dpi, (self.height * scale + 0.01) / self.dpi)
        self.canvas = FigureCanvasAgg(self.fig)
        self.ax = self.fig.add_axes((0.0, 0.0, 1.0, 1.0))
        self.ax.axis("off")
        self.ax.set(xlim=(0, self.width), ylim=(self.height, 0))
        self._picture = self.lay(self._displayable(img))

    def lay(self, picture: np.ndarray) -> BboxImage:
        """Show a picture of the image's shape, (H, W, 3 or 4), over all of the figure."""
        # Not ax.imshow, which some versions of matplotlib move by part of a pixel if the figure has a fraction of one.
        layer = BboxImage(self._whole_pixels, interpolation="nearest", origin="upper")
        layer.set_data(picture)
        self.ax.add_artist(layer)
        return layer

    def _whole_pixels(self, renderer) -> Bbox:
        return Bbox.from_bounds(0, 0, *np.floor(self.fig.bbox.size))

    @staticmethod
    def _displayable(img: np.ndarray) -> np.ndarray:
        return img.astype(np.uint8) if img.max(initial=0) > 1 else img

    def reset_image(self, img: np.ndarray) -> None:
        """Show another image of the same size beneath what is drawn."""
        self._picture.set_data(self._displayable(img))

    def save(self, filepath: str) -> None:
        """Write what is drawn to an image file; the suffix names the format."""
        self.fig.savefig(filepath)

    def get_image(self) -> np.ndarray:
        """(H * scale, W * scale, 3) uint8 RGB: the image with all that was drawn."""
        self.canvas.draw()
        return np.array(self.canvas.buffer_rgba())[:, :, :3]
