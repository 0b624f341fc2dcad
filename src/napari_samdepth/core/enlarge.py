"""Masks at image resolution from logits, exactly as if every pixel had been computed, mostly without computing it.

A pixel between four samples of the same sign has that sign, whatever its weights; where the samples are many pixels
apart that decides almost all of them, and only those near the mask's edge are interpolated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.resample import Box, Frame, Taps, blend, input_under_box, logits_in_box, taps

_MIXED = 2
_DENSE_SHARE = 0.2
"""Share of undecided pixels from which computing them all is the quicker way."""
_SMALL = 1 << 14
"""Boxes of fewer pixels are computed whole: there is nothing to save."""


def mask_in_box(logits: NDArray[np.float32], frame: Frame, box: Box, threshold: float = 0.0) -> NDArray[np.bool_]:
    """Return ``logits_in_box(logits, frame, box) > threshold``, bit for bit, sooner where the box is large.

    Parameters
    ----------
    logits
        (h, w) float32 canvas.
    frame
        How the canvas covers the image.
    box
        (row_min, col_min, row_max, col_max), half open, in image pixels.
    threshold
        In logits.

    Returns
    -------
    (row_max - row_min, col_max - col_min) bool.
    """
    row_min, col_min, row_max, col_max = box
    pixels = (row_max - row_min) * (col_max - col_min)
    samples = frame.valid_size[0] * frame.valid_size[1]
    if pixels < _SMALL or frame.image_shape[0] * frame.image_shape[1] < 4 * samples:
        return logits_in_box(logits, frame, box) > threshold
    middle, (low_row, low_col) = input_under_box(logits, frame, box)
    rows = _moved(taps(frame.valid_size[0], frame.image_shape[0], row_min, row_max), low_row)
    cols = _moved(taps(frame.valid_size[1], frame.image_shape[1], col_min, col_max), low_col)
    signs = _cell_signs(middle > threshold)[rows.first].take(cols.first, axis=1)
    mixed = np.flatnonzero(signs == _MIXED)
    if mixed.size > _DENSE_SHARE * pixels:
        return logits_in_box(logits, frame, box) > threshold
    mask: NDArray[np.bool_] = signs == 1
    mask.reshape(-1)[mixed] = _at(middle, rows, cols, mixed) > threshold
    return mask


def _moved(at: Taps, origin: int) -> Taps:
    return Taps(at.first - origin, at.second - origin, at.weight_first, at.weight_second)


def _cell_signs(above: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return for each sample and its right and lower neighbours: 1 all above, 0 none above, 2 mixed.

    The last row and column, which have no such neighbours, are repeated.
    """
    padded = np.pad(above, ((0, 1), (0, 1)), mode="edge").view(np.uint8)
    count = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
    signs = np.full(count.shape, _MIXED, dtype=np.uint8)
    signs[count == 0] = 0
    signs[count == 4] = 1
    return signs


def _at(middle: NDArray[np.float32], rows: Taps, cols: Taps, flat: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the interpolated values at flat positions of the box, columns first, then rows."""
    row, col = np.divmod(flat, cols.first.size)
    left, right = cols.first[col], cols.second[col]
    weights = cols.weight_first[col], cols.weight_second[col]
    top, bottom = rows.first[row], rows.second[row]
    upper = blend(middle[top, left], middle[top, right], *weights)
    lower = blend(middle[bottom, left], middle[bottom, right], *weights)
    return blend(upper, lower, rows.weight_first[row], rows.weight_second[row])
