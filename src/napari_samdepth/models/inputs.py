"""Checks that every network adapter makes of its input image, and small things they share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts


def checked_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `rgb` as contiguous uint8 (H, W, 3).

    Raises
    ------
    ModelError
        If it is anything else than uint8 (H, W, 3) with at least one pixel.
    """
    array = np.asarray(rgb)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ModelError(f"A model needs an image of uint8 (H, W, 3), got {array.dtype} {array.shape}.")
    return np.ascontiguousarray(array)


def check_mask(prompts: Prompts, shape: tuple[int, ...]) -> None:
    """Raise ModelError where the prompts' mask has not the form of a model's logits."""
    if prompts.mask_window is not None:
        raise ModelError("This mask was made by another model, which fed back a part of the image; click anew.")
    if prompts.mask is not None and prompts.mask.shape != shape:
        raise ModelError(f"A mask prompt must be logits of shape {shape}, got {prompts.mask.shape}.")


def silent(fraction: float, what: str) -> None:
    """A `Report` that tells nobody."""


def frozen(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `array`, made read-only."""
    array.flags.writeable = False
    return array
