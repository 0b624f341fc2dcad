"""The range of a depth map, in which nearness and spread are given."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samdepth.core.depthmap import DepthMap

LOW_PERCENT, HIGH_PERCENT = 2.0, 98.0


@dataclass(frozen=True)
class DepthScale:
    """Where a depth map's values lie.

    Attributes
    ----------
    low, high
        The 2nd and the 98th percentile of the finite values; NaN where there are none.
    sign
        +1 where larger values are nearer, -1 where they are farther.
    """

    low: float
    high: float
    sign: int

    @property
    def span(self) -> float:
        """P98 - P2, NaN where the map is constant or empty."""
        return self.high - self.low if self.high > self.low else float("nan")

    def nearness(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return how near `values` are: 0 at the far end of the range, 1 at the near end, clipped; NaN stays NaN.

        For inverse depth and height ``(v - P2) / (P98 - P2)``; for distance and index ``(P98 - v) / (P98 - P2)``, so
        that 1 is nearest for every kind.
        """
        far = self.low if self.sign > 0 else self.high
        return np.clip(self.sign * (np.asarray(values, dtype=np.float64) - far) / self.span, 0.0, 1.0)


_known: WeakKeyDictionary[DepthMap, DepthScale] = WeakKeyDictionary()


def depth_scale(depth: DepthMap) -> DepthScale:
    """Return the range of a depth map; computed once per map and remembered as long as the map lives."""
    if depth not in _known:
        finite = depth.values[np.isfinite(depth.values)]
        low = high = np.nan
        if finite.size:
            low, high = np.percentile(finite, (LOW_PERCENT, HIGH_PERCENT), overwrite_input=True)
        _known[depth] = DepthScale(float(low), float(high), depth.near_sign)
    return _known[depth]
