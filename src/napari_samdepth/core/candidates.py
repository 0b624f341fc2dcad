"""Candidates: the masks that a decoder offers for one set of prompts, and which of them is best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.enlarge import mask_in_box
from napari_samdepth.core.resample import Box, Frame, positive_box

MASK_THRESHOLD = 0.0
"""A pixel belongs to a mask where its logit exceeds this (as in segment_anything)."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A mask kept only inside the box that it can touch.

    Attributes
    ----------
    mask
        (h, w) bool.
    origin
        (row, col) of ``mask[0, 0]`` in the image.
    """

    mask: NDArray[np.bool_]
    origin: tuple[int, int]

    @property
    def box(self) -> Box:
        """(row_min, col_min, row_max, col_max) in image pixels, half open."""
        row, col = self.origin
        return row, col, row + self.mask.shape[0], col + self.mask.shape[1]

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the patch in an image-sized array."""
        row_min, col_min, row_max, col_max = self.box
        return slice(row_min, row_max), slice(col_min, col_max)

    def moved(self, by: tuple[int, int]) -> Patch:
        """Return the mask moved by (rows, cols); a window's becomes the image's when moved by the window's origin."""
        return Patch(self.mask, (self.origin[0] + by[0], self.origin[1] + by[1]))

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def full(self, image_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask as (H, W) bool."""
        out = np.zeros(image_shape, dtype=bool)
        out[self.slices] = self.mask
        return out


def patch_above(logits: NDArray[np.float32], frame: Frame, threshold: float = MASK_THRESHOLD) -> Patch:
    """Return where low-resolution values (h, w) exceed a threshold, at image resolution, inside the box it can touch.

    An empty patch where they do nowhere. Values are enlarged bilinearly, as torch does.
    """
    box = positive_box(logits, frame, threshold)
    if box is None:
        return Patch(np.zeros((0, 0), dtype=bool), (0, 0))
    return Patch(mask_in_box(logits, frame, box, threshold), (box[0], box[1]))


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a segmenter answers to prompts.

    Attributes
    ----------
    logits
        (n, h, w) float32, low resolution; one of them may be fed back as `Prompts.mask`.
    scores
        (n,) float64, the model's own estimate of each mask's IoU.
    frame
        How the logits' canvas covers the image.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    frame: Frame

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.scores.shape != (len(self.logits),) or len(self.scores) == 0:
            raise ValueError(
                "Candidates need logits (n, h, w) and scores (n,) with n >= 1, "
                f"got {self.logits.shape} and {self.scores.shape}."
            )

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.scores)

    @property
    def best(self) -> int:
        """Index of the mask with the highest score."""
        return int(np.argmax(self.scores))

    def patch(self, index: int | None = None) -> Patch:
        """Return mask `index` (the best if None) inside the box that it can touch, at image resolution."""
        return patch_above(self.logits[self.best if index is None else index], self.frame)

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(n, H, W) bool, at image resolution; made on first use."""
        masks = np.stack([self.patch(index).full(self.frame.image_shape) for index in range(len(self))])
        masks.flags.writeable = False
        return masks
