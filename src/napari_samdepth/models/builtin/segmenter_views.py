"""Views: the square pieces of an image that the built-in segmenter decodes, and how logits are resampled between them.

A view is a square of the image, shown to the network at 256 x 256; what lies beyond the image is padding at the
bottom and right, as Segment Anything pads. The whole view has the image's longer side; windows are smaller. Positions
in the image are (row, col) with the first pixel's centre at (0, 0); positions in a view count view pixels likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_samdepth.core.resample import Box, Frame

INPUT = 256
LOW_RES = 128
PADDING = 127.0
OUTSIDE = -16.0
"""Logit of what a view does not show."""

LOW, HIGH = 0.005, 0.998
LEAST_RANGE = 24.0


def stretch(view: Tensor) -> Tensor:
    """Stretch a view's values to 0–255 from their 0.5 and 99.8 percentiles, all channels alike.

    ``view`` is float (3, h, w) in 0–255. A view that spans fewer than 24 grey values is not stretched further than
    those, so that an empty one stays quiet.
    """
    values = view.flatten()
    values = values[:: max(1, values.numel() // 20000)]
    ordered = values.sort().values
    low = ordered[int(LOW * (len(ordered) - 1))]
    high = ordered[int(HIGH * (len(ordered) - 1))]
    span = torch.clamp(high - low, min=LEAST_RANGE)
    return ((view - low) * (255.0 / span)).clamp(0.0, 255.0)


@dataclass(frozen=True)
class View:
    """The square of ``side`` pixels whose first pixel is (``top``, ``left``), in an image of ``image_shape``."""

    top: int
    left: int
    side: int
    image_shape: tuple[int, int]

    @classmethod
    def whole(cls, image_shape: tuple[int, int]) -> View:
        """Return the view of the whole image."""
        return cls(0, 0, max(image_shape), image_shape)

    @classmethod
    def around(cls, centre: tuple[float, float], side: float, image_shape: tuple[int, int]) -> View:
        """Return the window of about ``side`` pixels nearest to ``centre`` (row, col) that stays in the image."""
        size = max(1, min(round(side), max(image_shape)))
        top, left = (
            int(np.clip(round(at + 0.5 - size / 2), 0, max(0, length - size)))
            for at, length in zip(centre, image_shape, strict=True)
        )
        return cls(top, left, size, image_shape)

    @classmethod
    def of_window(cls, window: Box | None, image_shape: tuple[int, int]) -> View:
        """Return the view of a square `window` (row_min, col_min, row_max, col_max), of the whole image if None."""
        if window is None:
            return cls.whole(image_shape)
        return cls(window[0], window[1], window[2] - window[0], image_shape)

    @property
    def window(self) -> Box:
        """(row_min, col_min, row_max, col_max), half open, in image pixels; it may reach beyond the image."""
        return self.top, self.left, self.top + self.side, self.left + self.side

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of image pixels in the view."""
        height, width = self.image_shape
        return min(self.side, height - self.top), min(self.side, width - self.left)

    @property
    def scale(self) -> float:
        """View pixels per image pixel."""
        return INPUT / self.side

    @property
    def valid(self) -> tuple[int, int]:
        """(rows, cols) of view pixels that are not padding."""
        rows, cols = self.shape
        return max(1, round(rows * self.scale)), max(1, round(cols * self.scale))

    @property
    def frame(self) -> Frame:
        """How the view's logits cover its part of the image."""
        return Frame(self.shape, (INPUT, INPUT), self.valid)

    def points(self, points_rc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return image positions (n, 2) as positions in the view."""
        return (points_rc + 0.5 - [self.top, self.left]) * self.scale - 0.5

    def holds(self, points_rc: NDArray[np.float64], margin: float = 0.0) -> bool:
        """Return whether all positions (n, 2) lie in the view, ``margin`` (a share of the side) from inner borders."""
        if len(points_rc) == 0:
            return True
        low, high = points_rc.min(0), points_rc.max(0)
        return all(
            (start == 0 or low[axis] >= start + margin * self.side)
            and (start + size >= length or high[axis] <= start + size - 1 - margin * self.side)
            for axis, (start, size, length) in enumerate(
                zip((self.top, self.left), (self.side, self.side), self.image_shape, strict=True)
            )
        )

    def pixels(self, rgb: NDArray[np.uint8]) -> Tensor:
        """Return the view of an image uint8 (H, W, 3) as the network's input: float (3, 256, 256) in 0–255."""
        rows, cols = self.shape
        crop = torch.from_numpy(rgb[self.top : self.top + rows, self.left : self.left + cols].copy())
        planes = crop.permute(2, 0, 1)[None]
        if (rows, cols) != self.valid:
            # integers while shrinking large crops (fast), floats while enlarging small ones (no steps)
            planes = planes if max(rows, cols) > 2 * INPUT else planes.float()
            planes = F.interpolate(planes, self.valid, mode="bilinear", antialias=True)
        view = stretch(planes[0].float())
        return F.pad(view, (0, INPUT - self.valid[1], 0, INPUT - self.valid[0]), value=PADDING)

    def cut(self, mask: NDArray[np.bool_]) -> bool:
        """Return whether a low-resolution mask (128, 128) reaches a border of the view behind which there is image."""
        rows, cols = (max(1, round(n * LOW_RES / INPUT)) for n in self.valid)
        height, width = self.image_shape
        return bool(
            (self.top > 0 and mask[:2].any())
            or (self.left > 0 and mask[:, :2].any())
            or (self.top + self.side < height and mask[rows - 2 : rows].any())
            or (self.left + self.side < width and mask[:, cols - 2 : cols].any())
        )

    def extent(self, mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """Return the box (row_min, col_min, row_max, col_max) of a low-resolution mask in image pixels, or None."""
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows) == 0:
            return None
        step = self.side / LOW_RES
        corner = np.array([self.top, self.left, self.top, self.left], dtype=np.float64)
        return corner + step * np.array([rows[0], cols[0], rows[-1] + 1, cols[-1] + 1])


def _resampled(values: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Bilinear samples of (n, h, w) at positions rows x cols, constant beyond the edges."""
    h, w = values.shape[-2:]
    grid = torch.stack(
        torch.meshgrid((rows + 0.5) * (2 / h) - 1, (cols + 0.5) * (2 / w) - 1, indexing="ij")[::-1], dim=-1
    ).float()
    return F.grid_sample(values[None], grid[None], padding_mode="border", align_corners=False)[0]


CANVAS = 512
"""Longer side of a canvas in cells, at most."""


def canvas_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return (h, w) of the canvas over a whole image."""
    factor = min(1.0, CANVAS / max(image_shape))
    height, width = (max(1, round(n * factor)) for n in image_shape)
    return height, width


def to_canvas(logits: Tensor, view: View, cells_of: tuple[int, int]) -> Tensor:
    """Return a view's logits (n, 128, 128) on a canvas (n, *cells_of) over the whole image; beyond the view -16."""
    canvas = torch.full((len(logits), *cells_of), OUTSIDE)
    spans, places = [], []
    for start, size, length, cells in zip((view.top, view.left), view.shape, view.image_shape, cells_of, strict=True):
        first = int(np.ceil(start * cells / length - 0.5))
        last = int(np.floor((start + size) * cells / length - 0.5))
        index = torch.arange(max(first, 0), min(last, cells - 1) + 1)
        spans.append(slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0, 0))
        places.append(((index + 0.5) * (length / cells) - start) * (LOW_RES / view.side) - 0.5)
    if len(places[0]) and len(places[1]):
        canvas[:, spans[0], spans[1]] = _resampled(logits, *places)
    return canvas


def from_canvas(canvas: Tensor, view: View) -> Tensor:
    """Return what a view shows of a canvas (h, w) over the whole image, as logits (128, 128)."""
    places = []
    valid = []
    for start, length, cells in zip((view.top, view.left), view.image_shape, canvas.shape, strict=True):
        at = start + (torch.arange(LOW_RES) + 0.5) * (view.side / LOW_RES)
        places.append(at * (cells / length) - 0.5)
        valid.append(at < length)
    seen = _resampled(canvas[None], *places)[0]
    return torch.where(valid[0][:, None] & valid[1], seen, torch.tensor(OUTSIDE))
