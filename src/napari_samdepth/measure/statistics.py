"""Order statistics of many groups of pixels at once, from one sort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Groups = NDArray[np.integer[Any]]

MAD_TO_SIGMA = 1.4826
"""For a normal distribution the standard deviation is this times the median absolute deviation."""


_BATCH = 1 << 17


def _ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return integers in the order of `values`: the float's bits with the sign turned (negative: all bits)."""
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    flip = (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x80000000)
    return (bits ^ flip).astype(np.uint64)


@dataclass(frozen=True, eq=False)
class Grouped:
    """Values sorted within their groups.

    Attributes
    ----------
    values
        (n,) float32, group after group, ascending within each.
    start, count
        (groups,) int64: where each group begins and how many values it has.
    """

    values: NDArray[np.float32]
    start: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Groups, values: NDArray[np.float32], n_groups: int) -> Grouped:
        """Sort `values` (n,) by their group number (n,), 0 to ``n_groups - 1``. NaN is not allowed.

        Counting sort by group (what a sparse matrix does when it turns from rows to columns), then each group by
        itself: with thousands of groups several times as fast as one sort of everything.
        """
        small = np.int32 if max(len(values), n_groups) < 2**31 - 1 else np.int64
        rows = np.arange(len(values) + 1, dtype=small)
        columns = groups.astype(small, copy=False)
        by_group = sparse.csr_array((values, columns, rows), shape=(len(values), n_groups)).tocsc()
        ordered, bounds = by_group.data, by_group.indptr.astype(np.int64)
        edges = bounds.tolist()
        for begin, end in pairwise(edges):
            if end - begin > 1:
                ordered[begin:end].sort()
        return cls(ordered, bounds[:-1], np.diff(bounds))

    def _at(self, index: NDArray[np.int64]) -> Floats:
        """Return each group's value number `index`; any number is right for groups without values."""
        if not len(self.values):
            return np.full(len(self.count), np.nan)
        where = self.start + np.clip(index, 0, np.maximum(self.count - 1, 0))
        return self.values[np.minimum(where, len(self.values) - 1)].astype(np.float64)

    def _or_nan(self, values: Floats) -> Floats:
        return np.where(self.count > 0, values, np.nan)

    def quantile(self, q: float) -> Floats:
        """Return the `q` quantile (0-1) of each group, linear between values as in numpy; NaN for an empty group."""
        position = q * np.maximum(self.count - 1, 0)
        low = np.floor(position).astype(np.int64)
        below = self._at(low)
        return self._or_nan(below + (position - low) * (self._at(low + 1) - below))

    def mean(self) -> Floats:
        """Return the mean of each group, NaN for an empty one."""
        total = np.zeros(len(self.count))
        some = self.count > 0
        if some.any():
            total[some] = np.add.reduceat(self.values, self.start[some], dtype=np.float64)
        return self._or_nan(total / np.maximum(self.count, 1))

    def mad(self) -> Floats:
        """Return the median absolute deviation from the median of each group (not scaled), NaN for an empty one."""
        median = self.quantile(0.5)
        high = np.maximum(self.count, 1) // 2
        low = (np.maximum(self.count, 1) - 1) // 2
        return self._or_nan((self._deviation(median, low) + self._deviation(median, high)) / 2)

    def _deviation(self, centre: Floats, rank: NDArray[np.int64]) -> Floats:
        """Return the absolute deviation number `rank` from `centre`, without sorting again.

        The ``rank + 1`` values nearest to the centre lie together in the sorted group; the first window of that
        length that reaches as far above the centre as below is found by bisection, in all groups at once.
        """
        first = np.zeros_like(self.count)
        last = np.maximum(self.count - 1 - rank, 0)
        for _ in range(int(self.count.max(initial=1)).bit_length()):
            middle = (first + last) // 2
            reached = self._at(middle + rank) - centre >= centre - self._at(middle)
            last = np.where(reached, middle, last)
            first = np.where(reached | (first == last), first, middle + 1)
            first = np.minimum(first, last)

        def extent(at: NDArray[np.int64]) -> Floats:
            return np.maximum(centre - self._at(at), self._at(at + rank) - centre)

        return np.minimum(extent(last), extent(np.maximum(last - 1, 0)))


@dataclass(frozen=True, eq=False)
class Separation:
    """How two sets of values compare, for each group.

    Attributes
    ----------
    median_inside, median_outside
        (groups,) float64.
    auc
        (groups,) float64: probability that a value inside is larger than one outside, ties counted half
        (Mann and Whitney, 1947). NaN where a group has no value on one side.
    """

    median_inside: Floats
    median_outside: Floats
    auc: Floats


def separation(
    inside: tuple[Groups, NDArray[np.float32]], outside: tuple[Groups, NDArray[np.float32]], n_groups: int
) -> Separation:
    """Compare, group by group, the values inside with those outside; each a pair (group numbers, values), (n,)."""
    within, beyond = Grouped.of(*inside, n_groups), Grouped.of(*outside, n_groups)
    wins = np.zeros(n_groups)
    for first, last in _batches(within.count + beyond.count):
        wins[first:last] = _wins(within, beyond, first, last)
    pairs = within.count * beyond.count
    auc = np.divide(wins, pairs, out=np.full(n_groups, np.nan), where=pairs > 0)
    return Separation(within.quantile(0.5), beyond.quantile(0.5), auc)


def _batches(count: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut the groups into ranges [first, last) of about `_BATCH` values, which stay in the cache."""
    end = np.cumsum(count)
    first = 0
    while first < len(count):
        begun = end[first] - count[first]
        last = max(int(np.searchsorted(end, begun + _BATCH, side="right")), first + 1)
        yield first, last
        first = last


def _keys(grouped: Grouped, first: int, last: int, flag: int) -> NDArray[np.uint64]:
    """Return ascending keys of the groups [first, last): the group, then the value, then the flag."""
    count = grouped.count[first:last]
    begin = int(grouped.start[first])
    keys = _ordered_bits(grouped.values[begin : begin + int(count.sum())])
    keys <<= np.uint64(1)
    keys |= np.repeat(np.arange(len(count), dtype=np.uint64) << np.uint64(33), count)
    keys |= np.uint64(flag)
    return keys


def _wins(within: Grouped, beyond: Grouped, first: int, last: int) -> Floats:
    """Return for the groups [first, last) the sum over values inside of: values outside below, half of those equal."""
    keys = np.concatenate([_keys(beyond, first, last, 0), _keys(within, first, last, 1)])
    keys.sort(kind="stable")  # two runs in order are merged in linear time
    is_inside = (keys & np.uint64(1)).astype(bool)
    up_to = np.cumsum(~is_inside)
    keys >>= np.uint64(1)
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    below = np.maximum.accumulate(np.where(new, up_to - ~is_inside, 0))
    total = np.concatenate([[0], np.cumsum((up_to + below)[is_inside])])
    count_in, start_out = within.count[first:last], beyond.start[first:last]
    stop = np.cumsum(count_in)
    # values outside that belong to earlier groups of the range lie below as well: those are no wins
    return np.asarray((total[stop] - total[stop - count_in]) / 2 - count_in * (start_out - beyond.start[first]))
