"""How good a map of inverse depth is: rank correlation, and error after the best scale and shift."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

Array = np.ndarray[Any, Any]


class Score(NamedTuple):
    """Spearman's rank correlation and mean absolute relative error of one picture."""

    spearman: float
    abs_rel: float


def ramp(shape: tuple[int, int]) -> Array:
    """The trivial guess "lower rows are nearer": (H, W) float32, the row's number."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    return np.broadcast_to(rows, shape)


def align(predicted: Array, truth: Array, where: Array) -> Array:
    """`predicted` with the least-squares scale and shift to `truth` over the bool mask `where`; all (H, W)."""
    p, t = predicted[where].astype(np.float64), truth[where].astype(np.float64)
    design = np.stack([p, np.ones_like(p)], 1)
    scale, shift = np.linalg.lstsq(design, t, rcond=None)[0]
    return np.asarray(scale * predicted.astype(np.float64) + shift)


def score(predicted: Array, truth: Array, where: Array | None = None) -> Score:
    """Compare (H, W) inverse depth, known up to scale and shift, with the true one, where that is finite and positive.

    The error is |aligned - true| / true in inverse depth, over the pixels of `where`.
    """
    valid = np.isfinite(truth) & (truth > 1e-6)
    valid &= where if where is not None else True
    p, t = predicted[valid], truth[valid]
    step = max(1, p.size // 100_000)
    ranks = np.corrcoef(rankdata(p[::step]), rankdata(t[::step]))[0, 1] if np.ptp(p) > 0 else 0.0
    error = np.abs(align(predicted, truth, valid)[valid] - t) / t
    return Score(float(ranks), float(error.mean()))
