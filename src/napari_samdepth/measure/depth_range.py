"""The range of a depth map, in which nearness and spread are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samdepth.core.depthmap import DepthMap

LOW_PERCENT, HIGH_PERCENT = 2.0, 98.0


@dataclass(frozen=True)
class DepthRange:
    """Where a depth map's values lie.

    Attributes
    ----------
    low, high
        The 2nd and the 98th percentile of the finite values; NaN where there are none.
    sign
        +1 where larger values are nearer, -1 where they are farther.
    zero
        What `single` takes off the values.
    """

    low: float
    high: float
    sign: int
    zero: float = 0.0

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


def single(depth: DepthMap) -> NDArray[np.float32]:
    """Return a map's values in float32, less the `zero` of its range, so that its detail survives far from 0."""
    values = depth.values if depth.values.dtype == np.float32 else depth.values - depth_range(depth).zero
    return values.astype(np.float32, copy=False)


_SAMPLE = 1 << 16
_known: WeakKeyDictionary[DepthMap, DepthRange] = WeakKeyDictionary()


def depth_range(depth: DepthMap) -> DepthRange:
    """Return the range of a depth map; computed once per map and remembered as long as the map lives."""
    if depth not in _known:
        low, high = (_percentile(depth.values.reshape(-1), percent) for percent in (LOW_PERCENT, HIGH_PERCENT))
        zero = 0.0 if depth.values.dtype == np.float32 else _zero(low, high)
        _known[depth] = DepthRange(low, high, depth.near_sign, zero)
    return _known[depth]


def _zero(low: float, high: float) -> float:
    """Return a number near `low` in as few binary digits as `high - low` asks for, so that whole numbers stay whole."""
    if not high > low:
        return low if math.isfinite(low) else 0.0
    step = 2.0 ** math.floor(math.log2(high - low))
    return math.floor(low / step) * step


def _percentile(values: NDArray[np.floating[Any]], percent: float) -> float:
    """Return a percentile of the values that are not NaN, linear between values as in numpy; NaN if there are none.

    In large arrays a sample tells between which two values it lies; only what lies between them is sorted.
    """
    count = values.size - int(np.count_nonzero(np.isnan(values)))
    if not count:
        return float("nan")
    position = percent / 100 * (count - 1)
    rank = int(position)
    sample = np.sort(values[:: max(values.size // _SAMPLE, 1)])  # NaN comes last
    sample = sample[: len(sample) - int(np.count_nonzero(np.isnan(sample)))]
    guess, slack = percent / 100 * len(sample), 5 * np.sqrt(len(sample)) + 2
    first, last = int(guess - slack), int(guess + slack)
    low = sample[first] if first >= 0 else -np.inf
    high = sample[last] if last < len(sample) else np.inf
    below = int(np.count_nonzero(values < low))
    between = np.sort(values[(values >= low) & (values <= high)])
    if not below <= rank or not rank + 2 <= below + len(between) + (rank + 1 == count):
        between, below = np.sort(values)[:count], 0  # the sample misled
    pair = between[[rank - below, min(rank + 1 - below, len(between) - 1)]].astype(np.float64)
    return float(pair[0] + (position - rank) * (pair[1] - pair[0]))
