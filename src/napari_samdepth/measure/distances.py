"""Distances to the nearest other label, up to a reach, for every pixel at once.

Masks that touch need distances to each other, not only to the background, and readouts need them only as far as a
mask is eroded or a ring is wide. So the exact Euclidean transform is computed with a bounded reach: the two passes of
Meijster, Roerdink and Hesselink ("A general algorithm for computing distance transforms in linear time", 2000), the
second as shifted minima on small integers, block by block in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.parallel import LARGE_PX, in_threads

_BLOCK_ROWS = 96
_BYTE_REACH = 11  # the largest reach for which reach² + (reach - 1)² fits into uint8
_LOOK_EVERY = 8
MAX_REACH = 180
"""The largest reach that the squared distances can hold."""

SmallInts = NDArray[np.uint8] | NDArray[np.uint16]


def squared_distances(labels: NDArray[np.integer[Any]], reach: int, outside: int | None = None) -> SmallInts:
    """Return for each pixel the squared distance to the nearest pixel with another label.

    The outside of the image is not another label: a mask cut off by the image's edge has no boundary there.

    Parameters
    ----------
    labels
        (H, W) integers; background (0) is a label like the others.
    reach
        In pixels, 1 to `MAX_REACH`; distances of `reach` and more are given as ``reach ** 2``.
    outside
        The same for the background, where less is enough there; `reach` if None.

    Returns
    -------
    (H, W) uint8, or uint16 where the reach needs it; 1 for a pixel with a neighbour of another label.
    """
    if not 1 <= reach <= MAX_REACH:
        raise ValueError(f"reach must be between 1 and {MAX_REACH} pixels, got {reach}.")
    height = labels.shape[0]
    out: SmallInts = np.empty(labels.shape, dtype=np.uint8 if reach <= _BYTE_REACH else np.uint16)

    def fill(start: int) -> None:
        stop = min(start + _BLOCK_ROWS, height)
        low, high = max(start - reach, 0), min(stop + reach, height)
        out[start:stop] = _block(labels[low:high], reach, min(outside or reach, reach), out.dtype)[
            start - low : stop - low
        ]

    in_threads(fill, range(0, height, _BLOCK_ROWS), worth_it=labels.size > LARGE_PX)
    return out


def _block(labels: NDArray[np.integer[Any]], reach: int, outside: int, dtype: np.dtype[Any]) -> SmallInts:
    across = _run_distances(labels, reach, dtype)
    if outside < reach:
        np.minimum(across, dtype.type(outside), out=across, where=labels == 0)
    across *= across
    down = _run_distances(labels.T, reach, dtype).T
    down *= down
    squared = np.minimum(across, down)
    # A row past another label may give too small a squared run, but never below the square of that label's distance.
    for step in range(1, min(reach, len(squared))):
        if step % _LOOK_EVERY == 0 and step * step >= squared.max():
            break  # nothing is so far from another label
        added = across + dtype.type(step * step)
        np.minimum(squared[step:], added[:-step], out=squared[step:])
        np.minimum(squared[:-step], added[step:], out=squared[:-step])
    return squared


def _run_distances(labels: NDArray[np.integer[Any]], reach: int, dtype: np.dtype[Any]) -> SmallInts:
    """Return the distance along the second axis to the nearest pixel with another label, at most `reach`."""
    near: SmallInts = np.full_like(labels, reach, dtype=dtype)
    edge = labels[:, 1:] != labels[:, :-1]
    near[:, 1:][edge] = 1
    near[:, :-1][edge] = 1
    step = 1
    while step < min(reach, near.shape[1]):
        ahead = near + dtype.type(step)
        np.minimum(near[:, step:], ahead[:, :-step], out=near[:, step:])
        np.minimum(near[:, :-step], ahead[:, step:], out=near[:, :-step])
        step *= 2
    return near
