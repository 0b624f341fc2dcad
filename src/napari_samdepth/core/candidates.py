"""Candidates: the masks that are offered for one set of prompts, which of them is best, and what may be fed back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Patch:
        """Return a mask (H, W) bool inside the smallest box that holds it."""
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            return cls(np.zeros((0, 0), dtype=bool), (0, 0))
        part = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        return cls(part.copy(), (int(rows[0]), int(cols[0])))

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
class MaskInput:
    """A mask as it is fed back to the model that made it (`Prompts.mask`).

    Array and numbers are all there is to it: stored and read again, they mean the same in another process.

    Attributes
    ----------
    logits
        (h, w) float32, read-only.
    window
        (row_min, col_min, row_max, col_max), half open, in image pixels: the part of the image that the logits are
        stretched over, which may reach beyond the image's lower and right edge; None where they cover the image in the
        model's own way.
    """

    logits: NDArray[np.float32]
    window: Box | None = None

    def __post_init__(self) -> None:
        logits = np.array(self.logits, dtype=np.float32)
        if logits.ndim != 2 or logits.size == 0:
            raise ValueError(f"MaskInput.logits must have shape (h, w), got shape {logits.shape}.")
        logits.flags.writeable = False
        object.__setattr__(self, "logits", logits)
        if self.window is not None:
            box: Box = tuple(int(edge) for edge in self.window)  # type: ignore[assignment]
            if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
                raise ValueError(f"MaskInput.window must be (row_min, col_min, row_max, col_max), got {self.window}.")
            object.__setattr__(self, "window", box)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a segmenter answers to prompts: masks, each with a score.

    A segmenter gives them as low-resolution logits, whoever has masks as masks (`of_masks`).

    Attributes
    ----------
    logits
        (n, h, w) float32, low resolution, or None where the masks are no model's.
    scores
        (n,) float64, the model's own estimate of each mask's IoU.
    frame
        How the logits' canvas covers the image.
    feedback
        What may be fed back as `Prompts.mask`, one per mask; empty where nothing may.
    patches
        The masks at image resolution, where they were given as such; else empty.
    """

    logits: NDArray[np.float32] | None
    scores: NDArray[np.float64]
    frame: Frame
    feedback: tuple[MaskInput, ...] = ()
    patches: tuple[Patch, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.patches) if self.logits is None else len(self.logits)
        fits = self.logits is None or self.logits.ndim == 3
        if not fits or self.scores.shape != (count,) or count == 0:
            raise ValueError(
                "Candidates need logits (n, h, w) or n masks, and scores (n,) with n >= 1, got "
                f"{f'{count} masks' if self.logits is None else self.logits.shape} and {self.scores.shape}."
            )
        if self.logits is not None and not self.feedback:
            object.__setattr__(self, "feedback", tuple(MaskInput(part) for part in self.logits))
        if len(self.feedback) not in (0, count) or len(self.patches) not in (0, count):
            raise ValueError(f"Candidates.feedback and .patches must be empty or hold one for each of {count} masks.")

    @classmethod
    def of_masks(
        cls,
        masks: NDArray[np.bool_] | Sequence[Patch],
        scores: ArrayLike | None = None,
        image_shape: tuple[int, int] | None = None,
        feedback: Sequence[MaskInput] = (),
    ) -> Candidates:
        """Return candidates that are the given masks, pixel for pixel.

        Parameters
        ----------
        masks
            (n, H, W) bool, or n patches.
        scores
            (n,); all 1 if None.
        image_shape
            (H, W); may be left out where `masks` is an array.
        feedback
            What a model takes in their place, one per mask.

        Raises
        ------
        ValueError
            If there are none, the numbers differ, or a mask does not lie in the image.
        """
        if isinstance(masks, np.ndarray):
            if masks.ndim != 3 or masks.dtype != bool:
                raise ValueError(f"Masks must be (n, H, W) bool, got {masks.dtype} {masks.shape}.")
            shape = (masks.shape[1], masks.shape[2])
            patches = tuple(Patch.of(mask) for mask in masks)
            if image_shape not in (None, shape):
                raise ValueError(f"Masks of {shape} do not fit an image of {image_shape}.")
        elif image_shape is None:
            raise ValueError("Candidates of patches need the image's shape (H, W).")
        else:
            shape, patches = image_shape, tuple(masks)
        for patch in patches:
            row_min, col_min, row_max, col_max = patch.box
            if min(row_min, col_min) < 0 or row_max > shape[0] or col_max > shape[1]:
                raise ValueError(f"A mask in the box {patch.box} does not lie in an image of {shape}.")
        given = np.ones(len(patches)) if scores is None else np.array(scores, dtype=np.float64)
        return cls(None, given, Frame.whole(shape, shape), tuple(feedback), patches)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.scores)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.frame.image_shape

    @property
    def best(self) -> int:
        """Index of the mask with the highest score."""
        return int(np.argmax(self.scores))

    def patch(self, index: int | None = None) -> Patch:
        """Return mask `index` (the best if None) inside the box that it can touch, at image resolution."""
        at = self.best if index is None else index
        if self.logits is None or self.patches:
            return self.patches[at]
        return patch_above(self.logits[at], self.frame)

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(n, H, W) bool, at image resolution; made on first use."""
        masks = np.stack([self.patch(index).full(self.image_shape) for index in range(len(self))])
        masks.flags.writeable = False
        return masks
