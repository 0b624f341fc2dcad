"""Which pixels a readout reads: each mask's core, and the rings inside and outside of its edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.parallel import LARGE_PX, in_threads
from napari_samdepth.measure.regions import Regions

Pixels = tuple[NDArray[np.int32], NDArray[np.float32]]
"""The label index and the depth of each pixel of a zone, (n,) and (n,); no NaN."""

_BLOCK_PX = 1 << 17


@dataclass(frozen=True, eq=False)
class Zones:
    """The pixels of all labels' zones.

    Attributes
    ----------
    core
        Farther from the mask's edge than its margin.
    inner
        In the mask, near its edge.
    outer
        In the background, near the mask's edge and nearer to no other label; a pixel that is as near to several labels
        stands there for each of them.
    """

    core: Pixels
    inner: Pixels
    outer: Pixels


def zones(
    regions: Regions,
    squared: NDArray[Any],
    values: NDArray[np.float32],
    margin_squared: NDArray[Any],
    width_squared: int,
) -> Zones:
    """Collect the pixels of each label's core and rings that have depth.

    Rows are worked on a few at a time, so that all that is needed of them stays in the cache.

    Parameters
    ----------
    regions
        The labels of an image (H, W).
    squared
        (H, W) squared distances to the nearest other label, see `distances.squared_distances`.
    values
        (H, W) depth, NaN where there is none.
    margin_squared
        (n + 1,) for each label index: the core is where `squared` is larger.
    width_squared
        The square of the rings' width; less than the square of the reach of `squared`.
    """
    height, width = regions.index.shape
    rows = max(_BLOCK_PX // width, 1)
    margin_squared = margin_squared.copy()
    margin_squared[0] = np.iinfo(margin_squared.dtype).max  # the background has no core

    def block(top: int) -> tuple[Pixels, Pixels, Pixels]:
        some = slice(top, min(top + rows, height))
        return _block(regions.index, squared, values, margin_squared, width_squared, some)

    parts = in_threads(block, range(0, height, rows), worth_it=values.size > LARGE_PX)
    core, inner, outer = (
        (np.concatenate([groups for groups, _ in zone]), np.concatenate([depth for _, depth in zone]))
        for zone in zip(*parts, strict=True)
    )
    return Zones(core, inner, outer)


def _block(
    index: NDArray[np.int32],
    squared: NDArray[Any],
    values: NDArray[np.float32],
    margin_squared: NDArray[Any],
    width_squared: int,
    rows: slice,
) -> tuple[Pixels, Pixels, Pixels]:
    here, distance, depth = index[rows], squared[rows], values[rows]
    known = ~np.isnan(depth)
    core = distance > margin_squared[here]
    core &= known
    near = distance <= width_squared
    near &= known
    inside = here > 0
    inner = near & inside
    near &= ~inside
    outer = _owners(index, rows, near, distance[near], depth[near])
    return (here[core], depth[core]), (here[inner], depth[inner]), outer


def _owners(
    index: NDArray[np.int32],
    rows: slice,
    ring: NDArray[np.bool_],
    distance: NDArray[Any],
    depth: NDArray[np.float32],
) -> Pixels:
    """Return the nearest labels of the background pixels `ring` of some rows, whose squared distances are known.

    As the distance is known, only the few steps of just that length have to be looked at.
    """
    reach = int(np.sqrt(distance.max(initial=0)))
    low, high = max(rows.start - reach, 0), min(rows.stop + reach, len(index))
    edge = (rows.start - low, rows.stop - rows.start + reach - (high - rows.start))
    around = np.pad(index[low:high], ((reach - edge[0], max(edge[1], 0)), (reach, reach)))
    stride = around.shape[1]
    at_row, at_col = np.nonzero(ring)
    place = (at_row + reach) * stride + at_col + reach
    flat = around.reshape(-1)
    owners, depths = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.float32)]
    for squared in np.flatnonzero(np.bincount(distance, minlength=1)).tolist():
        these = np.flatnonzero(distance == squared)
        origin, its_depth = place[these], depth[these]
        seen: list[NDArray[np.int32]] = []
        for row, col in _steps(squared):
            label = flat[origin + (row * stride + col)]
            fresh = label > 0
            for earlier in seen:
                fresh &= label != earlier
            owners.append(label[fresh])
            depths.append(its_depth[fresh])
            seen.append(label)
    return np.concatenate(owners), np.concatenate(depths)


@lru_cache(maxsize=4096)
def _steps(squared: int) -> tuple[tuple[int, int], ...]:
    """Return all (row, col) steps whose squared length is `squared`."""
    radius = int(np.sqrt(squared))
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return tuple((row, col) for row, col in (np.argwhere(rows**2 + cols**2 == squared) - radius).tolist())
