"""How good a map of inverse depth is: rank correlation, and error after the best scale and shift."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

Array = np.ndarray[Any, Any]
FARTHEST = 0.02
"""Pixels count down to this share of the near end (98th percentile): the relative error of a sky means nothing."""
RANKED = 20_000
"""Ranks are taken of about so many pixels, evenly spread: their correlation is known to well under a hundredth."""


class Score(NamedTuple):
    """Of one picture: Spearman's rank correlation, mean relative error, mean error over the range P2 to P98."""

    spearman: float
    abs_rel: float
    ranged: float


def ramp(shape: tuple[int, int]) -> Array:
    """The trivial guess "lower rows are nearer": (H, W) float32, the row's number."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    return np.broadcast_to(rows, shape)


def align(predicted: Array, truth: Array) -> Array:
    """`predicted` (n,) with the least-squares scale and shift to `truth` (n,), float64."""
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    design = np.stack([p, np.ones_like(p)], 1)
    scale, shift = np.linalg.lstsq(design, t, rcond=None)[0]
    return np.asarray(scale * p + shift)


def score(predicted: Array, truth: Array) -> Score:
    """Compare (H, W) inverse depth, known up to scale and shift, with the true one, where that is finite and near.

    The relative error is |aligned - true| / true in inverse depth.
    """
    known = np.isfinite(truth)
    valid = known & (truth > FARTHEST * np.percentile(truth[known], 98))
    p, t = predicted[valid], truth[valid]
    step = max(1, p.size // RANKED)
    ranks = np.corrcoef(rankdata(p[::step]), rankdata(t[::step]))[0, 1] if np.ptp(p) > 0 else 0.0
    error = np.abs(align(p, t) - t)
    low, high = np.percentile(t, (2, 98))
    return Score(float(ranks), float((error / t).mean()), float(error.mean() / max(high - low, 1e-12)))
