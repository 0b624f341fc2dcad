"""Prompts: what the user pointed at, as one checked value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samdepth.core.candidates import MaskInput, Patch
from napari_samdepth.core.resample import Box

PromptKind = Literal["points", "box", "mask", "scribbles", "lasso"]
PROMPT_KINDS: frozenset[PromptKind] = frozenset(get_args(PromptKind))
"""What one object can be described by; a model says which of them it takes."""


@dataclass(frozen=True, eq=False, init=False)
class Prompts:
    """Points, a box, a mask, scribbles and a lasso that together describe one object.

    Attributes
    ----------
    points
        (n, 2) float64, (row, col) in image pixels; the centre of the first pixel is (0, 0).
    labels
        (n,) int64, 1 for foreground and 0 for background.
    box
        (4,) float64 (row_min, col_min, row_max, col_max) in image pixels, or None.
    mask
        (h, w) float32 logits of an earlier decode, or None.
    mask_window
        (row_min, col_min, row_max, col_max), half open, in image pixels, that `mask` is stretched over; None where it
        covers the image in the model's own way.
    region
        A mask at image resolution from which the object starts, or None; with it `mask` is None.
    region_shape
        (H, W) of the array that `region` was given as, else None.
    scribbles
        Paths drawn over the object or beside it, each (n, 2) float64 (row, col).
    scribble_labels
        (number of scribbles,) int64, 1 for foreground and 0 for background.
    lasso
        (n, 2) float64 (row, col), the corners of a polygon drawn around the object, n >= 3, or None.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None
    mask: NDArray[np.float32] | None
    mask_window: Box | None
    region: Patch | None
    region_shape: tuple[int, int] | None
    scribbles: tuple[NDArray[np.float64], ...]
    scribble_labels: NDArray[np.int64]
    lasso: NDArray[np.float64] | None

    def __init__(
        self,
        points: ArrayLike | Sequence[tuple[float, float]] = (),
        labels: ArrayLike | Sequence[int] | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | MaskInput | Patch | None = None,
        scribbles: Sequence[ArrayLike] = (),
        scribble_labels: ArrayLike | Sequence[int] | None = None,
        lasso: ArrayLike | None = None,
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
            One of `Candidates.feedback`, or logits (h, w) as the model lays them over the image; or a mask at image
            resolution, as a `Patch` or an array (H, W) of bool; or None.
        scribbles
            Paths, each (n, 2) (row, col) in image pixels with n >= 1.
        scribble_labels
            One of 1 (foreground) or 0 (background) per scribble; all foreground if None.
        lasso
            (n, 2) (row, col) in image pixels, n >= 3: a polygon around the object, or None.

        Raises
        ------
        ValueError
            If a shape or a value does not fit, or nothing at all is given; the message says got and expected.
        """
        put = object.__setattr__
        put(self, "points", _checked_points(points))
        put(self, "labels", _checked_labels(labels, len(self.points)))
        put(self, "box", None if box is None else _checked_box(box))
        fed, region = _checked_mask(mask)
        whole = None if region is None or isinstance(mask, Patch) else np.asarray(mask).shape
        put(self, "mask", None if fed is None else fed.logits)
        put(self, "mask_window", None if fed is None else fed.window)
        put(self, "region", region)
        put(self, "region_shape", whole)
        put(self, "scribbles", tuple(_checked_path(path, "scribbles", 1) for path in scribbles))
        put(self, "scribble_labels", _checked_labels(scribble_labels, len(self.scribbles), "scribble"))
        put(self, "lasso", None if lasso is None else _checked_path(lasso, "lasso", 3))
        if not self.kinds:
            raise ValueError("Prompts need at least one point, box, mask, scribble or lasso; got none of them.")

    @property
    def kinds(self) -> frozenset[PromptKind]:
        """Which kinds of prompts there are."""
        there: dict[PromptKind, bool] = {
            "points": len(self.points) > 0,
            "box": self.box is not None,
            "mask": self.mask is not None or self.region is not None,
            "scribbles": len(self.scribbles) > 0,
            "lasso": self.lasso is not None,
        }
        return frozenset(kind for kind, given in there.items() if given)

    @property
    def ambiguous(self) -> bool:
        """Whether the prompts are one single point, for which several masks can be meant."""
        return len(self.points) == 1 and self.kinds == {"points"}


def _frozen(array: NDArray[np.generic]) -> None:
    array.flags.writeable = False


def _checked_path(path: ArrayLike, name: str, least: int) -> NDArray[np.float64]:
    array = np.array(path, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < least:
        raise ValueError(
            f"Prompts.{name} must be (n, 2) of (row, col) with n of at least {least}, got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"Prompts.{name} must be finite numbers, got NaN or infinity.")
    _frozen(array)
    return array


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


def _checked_labels(labels: ArrayLike | Sequence[int] | None, count: int, of: str = "point") -> NDArray[np.int64]:
    name = "labels" if of == "point" else f"{of}_labels"
    array = np.ones(count, dtype=np.int64) if labels is None else np.array(labels).reshape(-1).astype(np.int64)
    if array.shape != (count,):
        raise ValueError(f"Prompts.{name} must hold one number per {of}: got {array.size} for {count} {of}s.")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"Prompts.{name} must be 1 (foreground) or 0 (background), got {sorted(set(array.tolist()))}.")
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


def _checked_mask(mask: ArrayLike | MaskInput | Patch | None) -> tuple[MaskInput | None, Patch | None]:
    """Return logits that are fed back, or a mask at image resolution, whichever `mask` is."""
    if mask is None or isinstance(mask, MaskInput):
        return mask, None
    if not isinstance(mask, Patch):
        array = np.asarray(mask)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"Prompts.mask must be logits of shape (h, w), or a mask, got shape {array.shape}.")
        if array.dtype != bool:
            return MaskInput(array.astype(np.float32)), None
        mask = Patch.of(array)
    if mask.area == 0:
        raise ValueError("Prompts.mask must have at least one pixel, got an empty mask.")
    return None, mask
