"""Prompts: what the user pointed at, as one checked value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, init=False)
class Prompts:
    """Points, a box and a mask that together describe one object.

    Attributes
    ----------
    points
        (n, 2) float64, (row, col) in image pixels; the centre of the first pixel is (0, 0).
    labels
        (n,) int64, 1 for foreground and 0 for background.
    box
        (4,) float64 (row_min, col_min, row_max, col_max) in image pixels, or None.
    mask
        (h, w) float32 logits of an earlier decode (one of `Candidates.logits`), or None.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None
    mask: NDArray[np.float32] | None

    def __init__(
        self,
        points: ArrayLike | Sequence[tuple[float, float]] = (),
        labels: ArrayLike | Sequence[int] | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        """Check and keep the prompts.

        Parameters
        ----------
        points
            (n, 2) (row, col) in image pixels.
        labels
            (n,) of 1 (foreground) or 0 (background); all foreground if None.
        box
            (row_min, col_min, row_max, col_max) in image pixels, or None.
        mask
            (h, w) logits of an earlier decode, or None.

        Raises
        ------
        ValueError
            If a shape or a value does not fit, or nothing at all is given; the message says got and expected.
        """
        put = object.__setattr__
        put(self, "points", _checked_points(points))
        put(self, "labels", _checked_labels(labels, len(self.points)))
        put(self, "box", None if box is None else _checked_box(box))
        put(self, "mask", None if mask is None else _checked_mask(mask))
        if len(self.points) == 0 and self.box is None and self.mask is None:
            raise ValueError("Prompts need at least one point, a box or a mask; got none of them.")

    @property
    def ambiguous(self) -> bool:
        """Whether the prompts are one single point, for which several masks can be meant."""
        return len(self.points) == 1 and self.box is None and self.mask is None


def _frozen(array: NDArray[np.generic]) -> None:
    array.flags.writeable = False


def _checked_points(points: ArrayLike | Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    array = np.array(points, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"Prompts.points must have shape (n, 2) of (row, col), got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("Prompts.points must be finite numbers, got NaN or infinity.")
    _frozen(array)
    return array


def _checked_labels(labels: ArrayLike | Sequence[int] | None, count: int) -> NDArray[np.int64]:
    array = np.ones(count, dtype=np.int64) if labels is None else np.array(labels).reshape(-1).astype(np.int64)
    if array.shape != (count,):
        raise ValueError(f"Prompts.labels must hold one number per point: got {array.size} for {count} points.")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"Prompts.labels must be 1 (foreground) or 0 (background), got {sorted(set(array.tolist()))}.")
    _frozen(array)
    return array


def _checked_box(box: ArrayLike) -> NDArray[np.float64]:
    array = np.array(box, dtype=np.float64)
    if array.shape != (4,):
        raise ValueError(f"Prompts.box must be (row_min, col_min, row_max, col_max), got shape {array.shape}.")
    if not np.isfinite(array).all() or array[0] >= array[2] or array[1] >= array[3]:
        raise ValueError(f"Prompts.box must be finite with row_min < row_max and col_min < col_max, got {array}.")
    _frozen(array)
    return array


def _checked_mask(mask: ArrayLike) -> NDArray[np.float32]:
    array = np.array(mask, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"Prompts.mask must be logits of shape (h, w), got shape {array.shape}.")
    _frozen(array)
    return array
