"""What a click changes of a label that is refined: the label stays its own pixels everywhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.resample import Box

LARGEST_RIM = 12
"""Pixels; a rim that is thicker is a change, however coarse the network's samples are."""


def refined_mask(
    base: Patch,
    decoded: Patch,
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    regions: Sequence[Box] = (),
    grain: float = 1.0,
) -> Patch:
    """Return a label after clicks on it: what was decoded counts near the clicks, the label's own pixels elsewhere.

    A foreground click adds the part of the decoded mask that it lies in, or that borders on the part of the label that
    it lies in; a background click takes away the part of the label that it lies in and the decoded mask lacks. Rims
    thinner than the network's samples are rounding, and are no change.

    Parameters
    ----------
    base
        The label's own pixels.
    decoded
        What a decoder made of the label and the clicks.
    points
        (n, 2) (row, col) in pixels.
    labels
        (n,) 1 foreground, 0 background.
    regions
        Boxes, half open, inside which the decoded mask counts altogether.
    grain
        Pixels per sample of the decoder's logits.
    """
    window = _window([patch.box for patch in (base, decoded) if patch.mask.size], points)
    own, new = _inside(base, window), _inside(decoded, window)
    rim = int(np.clip(np.ceil(grain / 2) + 1, 1, LARGEST_RIM))
    added = _thick(new & ~own, rim)
    removed = _thick(own & ~new, rim)
    mask = own.copy()
    for point, label in zip(np.round(points).astype(int) - window[:2], labels, strict=True):
        row, col = int(point[0]), int(point[1])
        if label:
            if own[row, col]:
                part = _component(own, row, col)
                mask |= _touching(added, ndimage.binary_dilation(part, iterations=rim + 1))
            mask |= _component(added, row, col) | _near(new & ~own, row, col, 2 * rim)
        else:
            mask &= ~(_component(removed, row, col) | _near(own & ~new, row, col, 2 * rim))
    for row_min, col_min, row_max, col_max in regions:
        rows = slice(max(row_min - window[0], 0), max(row_max - window[0], 0))
        cols = slice(max(col_min - window[1], 0), max(col_max - window[1], 0))
        mask[rows, cols] = new[rows, cols]
    return Patch(mask, (window[0], window[1]))


def _window(boxes: list[Box], points: NDArray[np.float64]) -> Box:
    """Return the box around boxes and points, half open."""
    corners = [(box[0], box[1]) for box in boxes] + [(box[2], box[3]) for box in boxes]
    corners += [(int(row) + step, int(col) + step) for row, col in np.round(points) for step in (0, 1)]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _inside(patch: Patch, window: Box) -> NDArray[np.bool_]:
    size = (window[2] - window[0], window[3] - window[1])
    return patch.moved((-window[0], -window[1])).full(size) if patch.mask.size else np.zeros(size, dtype=bool)


def _thick(mask: NDArray[np.bool_], rim: int) -> NDArray[np.bool_]:
    """Return the parts of a mask that are thicker than a rim, with their own edges."""
    opened = ndimage.binary_opening(np.pad(mask, rim), disk(rim))[rim:-rim, rim:-rim]
    return np.asarray(ndimage.binary_dilation(opened, disk(rim)) & mask)


def _component(mask: NDArray[np.bool_], row: int, col: int) -> NDArray[np.bool_]:
    """Return the connected part of a mask that a pixel lies in, nothing where it lies in none."""
    if not mask[row, col]:
        return np.zeros_like(mask)
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    return np.asarray(parts == parts[row, col])


def _touching(mask: NDArray[np.bool_], zone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the connected parts of a mask that reach into a zone."""
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    reached = np.unique(parts[zone & mask])
    return np.asarray(np.isin(parts, reached[reached > 0]))


def _near(mask: NDArray[np.bool_], row: int, col: int, radius: int) -> NDArray[np.bool_]:
    """Return the connected part of a mask that a pixel lies in, as far as it is at most `radius` away."""
    part = _component(mask, row, col)
    rows, cols = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.asarray(part & ((rows - row) ** 2 + (cols - col) ** 2 <= radius**2))
