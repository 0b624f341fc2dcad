"""Plane: one 2-D view of an image as the user sees it, RGB uint8, with an identity.

What the user sees counts: contrast limits and gamma are applied as napari's canvas applies them (to every channel
of an RGB image as well, measured on napari 0.9.2), while the colormap is left out, because the models were made
for grey and colour pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Limits = tuple[float, float]
"""(low, high) contrast limits in the image's own values: low is shown black, high is shown white."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A 2-D view of an image, ready for a model.

    Attributes
    ----------
    rgb
        (H, W, 3) uint8, read-only.
    """

    rgb: NDArray[np.uint8]

    def __post_init__(self) -> None:
        rgb = np.asarray(self.rgb)
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0 or rgb.dtype != np.uint8:
            raise ValueError(f"Plane.rgb must be uint8 (H, W, 3), got {rgb.dtype} with shape {rgb.shape}.")
        # an array that nobody can write to any more need not be copied
        if rgb.flags.writeable or rgb.base is not None or not rgb.flags.c_contiguous:
            rgb = np.array(rgb, order="C")
            rgb.flags.writeable = False
        object.__setattr__(self, "rgb", rgb)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @cached_property
    def key(self) -> str:
        """Identity of the content: equal for equal shape and pixels, 40 hexadecimal digits; computed on first use."""
        digest = hashlib.sha1(repr(self.rgb.shape).encode(), usedforsecurity=False)
        digest.update(self.rgb.data)
        return digest.hexdigest()


def to_rgb(
    array: ArrayLike, *, contrast_limits: Limits | None = None, gamma: float = 1.0, rgb: bool | None = None
) -> NDArray[np.uint8]:
    """Return an image as napari shows it in grey or colour.

    Parameters
    ----------
    array
        (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; bool, integer or float. NaN is black, -inf and inf are the
        ends of the contrast limits. Alpha (0-1 for floats, the whole range for integers) lays the picture over black.
    contrast_limits
        (low, high) in the image's values, for all channels. If None as napari sets them at first: the range of
        uint8, else the smallest and largest finite value.
    gamma
        Exponent on the values between the limits; above 1 darkens.
    rgb
        Whether the last axis holds colours; if None it does where there are three axes.

    Returns
    -------
    A new array, (H, W, 3) uint8.

    Raises
    ------
    ValueError
        If the array is complex, empty, not numeric or has another number of axes, or a parameter is out of range.
    """
    image = np.asarray(array)
    _check_image(image, rgb)
    if not (np.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be a positive number, got {gamma}.")
    colours = image[..., :3] if image.ndim == 3 else image
    low, high = _checked_limits(contrast_limits) if contrast_limits is not None else data_limits(colours)
    shown = _stretch(colours, low, high, gamma)
    if image.ndim == 2:
        grey = np.empty((*shown.shape, 3), dtype=np.uint8)
        for channel in range(3):  # twice as fast as numpy.repeat
            grey[..., channel] = shown
        return grey
    return _over_black(shown, image[..., 3]) if image.shape[2] == 4 else shown


def data_limits(image: NDArray[Any]) -> Limits:
    """Return the contrast limits that napari gives a new image layer.

    Parameters
    ----------
    image
        Array of any shape, bool, integer or float; NaN and infinities are left out.

    Returns
    -------
    (0, 255) for uint8, else the smallest and largest value, widened to hold 0 and 1 where those are equal.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (min(low, 0.0), max(high, 1.0))


def fitting_level(shapes: Sequence[tuple[int, int]], limit: int) -> int:
    """Return which level of a multiscale image to work on, from the levels' shapes alone.

    Parameters
    ----------
    shapes
        (H, W) of each level's shown plane, in pixels, in any order.
    limit
        Longest side wanted, in pixels.

    Returns
    -------
    Index of the largest level whose longer side is at most `limit`, or of the smallest level where none is.
    """
    if not shapes:
        raise ValueError("A multiscale image needs at least one level, got none.")
    sides = [max(shape) for shape in shapes]
    fitting = [index for index, side in enumerate(sides) if side <= limit]
    return max(fitting, key=sides.__getitem__) if fitting else min(range(len(sides)), key=sides.__getitem__)


def _check_image(image: NDArray[Any], rgb: bool | None) -> None:
    if image.dtype.kind == "c":
        raise ValueError("Complex images cannot be shown: give the magnitude, numpy.abs(image), instead.")
    if image.dtype.kind not in "buif":
        raise ValueError(f"An image must hold numbers, got dtype {image.dtype}.")
    coloured = image.ndim == 3 and image.shape[2] in (3, 4) and rgb is not False
    grey = image.ndim == 2 and rgb is not True
    if not (coloured or grey):
        expected = {True: "(H, W, 3) or (H, W, 4)", False: "(H, W)", None: "(H, W), (H, W, 3) or (H, W, 4)"}[rgb]
        raise ValueError(f"An image plane must have shape {expected}, got {image.shape}: give one slice of it.")
    if image.size == 0:
        raise ValueError(f"The image is empty: its shape is {image.shape}.")


def _checked_limits(limits: Limits) -> Limits:
    low, high = (float(limit) for limit in limits)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"contrast_limits must be finite with low < high, got ({low:g}, {high:g}).")
    return low, high


def _stretch(image: NDArray[Any], low: float, high: float, gamma: float) -> NDArray[np.uint8]:
    """Map [low, high] to 0-255 through gamma, NaN to 0."""
    if image.dtype == np.uint8 and (low, high, gamma) == (0.0, 255.0, 1.0):
        return image.copy()
    if image.dtype.kind in "ui" and image.dtype.itemsize <= 2:
        # small integers have so few values that a table is both exact and several times faster
        native, code = np.dtype(image.dtype.type), np.dtype(f"u{image.dtype.itemsize}")
        every_value = np.arange(np.iinfo(code).max + 1).astype(code).view(native)
        table = _stretch(every_value.astype(np.float64), low, high, gamma)
        return np.asarray(table[image.astype(native, copy=False).view(code)])
    wide = image.dtype.itemsize > 4 or image.dtype.kind in "ui" or high - low < 1e-4 * max(abs(low), abs(high))
    exact = np.float64 if wide else np.float32
    values = np.clip(image.astype(exact), exact(low), exact(high))
    values = (values - exact(low)) / (exact(high) - exact(low))
    if gamma != 1.0:
        values **= exact(gamma)
    values *= exact(255)
    return np.asarray(np.rint(np.nan_to_num(values, copy=False, nan=0.0), out=values).astype(np.uint8))


def _over_black(shown: NDArray[np.uint8], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    full = 1.0 if alpha.dtype.kind in "bf" else float(np.iinfo(alpha.dtype).max)
    cover = np.clip(np.nan_to_num(alpha.astype(np.float32) / np.float32(full), nan=0.0), 0.0, 1.0)
    return np.asarray(np.rint(shown * cover[..., None]).astype(np.uint8))
