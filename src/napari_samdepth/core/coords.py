"""Where axes are flipped: (row, col) of this package to (x, y) of the models and back. Nowhere else."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def points_to_xy(points_rc: ArrayLike) -> NDArray[np.float64]:
    """Return points (n, 2) given as (row, col) as (x, y), float64, in pixels."""
    points = np.asarray(points_rc, dtype=np.float64).reshape(-1, 2)
    return np.ascontiguousarray(points[:, ::-1])


def box_to_xyxy(box_rc: ArrayLike) -> NDArray[np.float64]:
    """Return boxes (..., 4) given as (row_min, col_min, row_max, col_max) as (x_min, y_min, x_max, y_max)."""
    return np.asarray(box_rc, dtype=np.float64)[..., [1, 0, 3, 2]]


def box_from_xyxy(box_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Return boxes (..., 4) given as (x_min, y_min, x_max, y_max) as (row_min, col_min, row_max, col_max)."""
    return box_to_xyxy(box_xyxy)


def box_to_xywh(box_rc: ArrayLike) -> NDArray[np.float64]:
    """Return boxes (..., 4) given as (row_min, col_min, row_max, col_max) as (x, y, width, height)."""
    corners = box_to_xyxy(box_rc)
    return np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)
