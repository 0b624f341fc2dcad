"""Non-maximum suppression: of boxes that overlap too much, the one with the best score stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def non_maximum(boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the indices of boxes that no better-scored kept box overlaps by an IoU above `threshold`.

    Numbers are float32 and rounded as torchvision's are, so that what lies at the threshold falls to the same side.

    Parameters
    ----------
    boxes
        (n, 4) (row_min, col_min, row_max, col_max).
    scores
        (n,); among equals the first wins.
    threshold
        IoU from 0 to 1.

    Returns
    -------
    Indices of the kept boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    top, left, bottom, right = np.ascontiguousarray(boxes[order].T, dtype=np.float32)
    areas = (bottom - top) * (right - left)
    alive = np.ones(len(order), dtype=bool)
    for at in range(len(order)):
        if not alive[at]:
            continue
        rest = slice(at + 1, None)
        height = np.minimum(bottom[rest], bottom[at])
        height -= np.maximum(top[rest], top[at])
        width = np.minimum(right[rest], right[at])
        width -= np.maximum(left[rest], left[at])
        common = np.maximum(height, 0, out=height)
        common *= np.maximum(width, 0, out=width)
        with np.errstate(invalid="ignore"):  # two boxes without area share none
            alive[rest] &= ~(common / (areas[at] + areas[rest] - common) > np.float64(threshold))
    return np.asarray(order[alive])
