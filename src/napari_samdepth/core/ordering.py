"""Which of two labels that touch is in front; unsure is an answer.

Depth is compared a few pixels inside each shared boundary: at the boundary itself a depth map is blurred, and far from
it a tilted surface says nothing about who covers whom. Medians are compared because their order is the same in inverse
depth and in distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.regions import Regions
from napari_samdepth.core.scale import depth_scale
from napari_samdepth.core.statistics import MAD_TO_SIGMA, Grouped

Relation = Literal["front", "behind", "unsure"]

SKIP_PX = 2
"""Pixels next to the boundary that are not compared, where the label is thick enough."""
REACH_PX = 5
"""How far inside the boundary pixels are compared."""
GAP_PX = 2
"""Labels touch if they face each other across at most this many background pixels."""
MIN_DIFFERENCE = 0.02
"""Differences below this share of the map's range (P2-P98) are unsure: a smooth slope gives as much."""


@dataclass(frozen=True)
class Order:
    """How two labels that touch stand to each other.

    Attributes
    ----------
    first, second
        The labels, ``first < second``.
    relation
        Whether `first` is in front of `second`, behind it, or it cannot be told.
    difference
        How much nearer `first` is along the shared boundary, as a share of the map's range; NaN without depth there.
    noise
        The pooled median absolute deviation (scaled to a standard deviation) in the same unit.
    contact
        Number of pixel pairs along which they touch.
    """

    first: int
    second: int
    relation: Relation
    difference: float
    noise: float
    contact: int


def order_touching(
    labels: NDArray[np.integer[Any]], depth: DepthMap, k: float = 1.0, upsampling: float = 1.0
) -> list[Order]:
    """Return the order of every pair of labels that touch.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background.
    depth
        Depth of the same image.
    k
        Unsure where the difference is at most `k` times the noise, or less than `MIN_DIFFERENCE`.
    upsampling
        How many pixels of the image one pixel of the depth model's output covers.

    Returns
    -------
    One entry per pair, by first and second label.

    Raises
    ------
    ValueError
        If `labels` and `depth` differ in shape.
    """
    if labels.shape != depth.values.shape:
        raise ValueError(
            f"Labels and depth must have the same shape, got {labels.shape} and {depth.values.shape}: "
            "take the depth of the same image."
        )
    return orders_of(Regions.of(labels), depth, k, upsampling)


def orders_of(regions: Regions, depth: DepthMap, k: float = 1.0, upsampling: float = 1.0) -> list[Order]:
    """Return `order_touching` of labels whose regions are known already."""
    contacts = _contacts(regions.index)
    if not len(contacts.first):
        return []
    low, high = np.minimum(contacts.first, contacts.second), np.maximum(contacts.first, contacts.second)
    keys, pair = np.unique(low.astype(np.int64) * len(regions) + high, return_inverse=True)
    median, mad = _beside(regions.index, depth.values, contacts, pair, contacts.first != low, upsampling)
    scale = depth_scale(depth)
    difference = scale.sign * (median[:, 0] - median[:, 1]) / scale.span
    noise = MAD_TO_SIGMA * np.sqrt((mad**2).mean(axis=1)) / scale.span
    sure = (np.abs(difference) > k * noise) & (np.abs(difference) >= MIN_DIFFERENCE)
    relation = np.where(sure, np.where(difference > 0, "front", "behind"), "unsure")
    first, second = regions.numbers[keys // len(regions)], regions.numbers[keys % len(regions)]
    contact = np.bincount(pair)
    columns = (first, second, relation, difference, noise, contact)
    return [Order(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


@dataclass(frozen=True, eq=False)
class _Contacts:
    """Pairs of pixels of two labels that face each other.

    ``first`` and ``second`` are (n,) label indices; ``at_first`` and ``at_second`` (n, 2) their pixels (row, col);
    ``inward`` (n, 2) the unit step from the second pixel to the first.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    at_first: NDArray[np.int64]
    at_second: NDArray[np.int64]
    inward: NDArray[np.int64]


def _contacts(index: NDArray[np.int32]) -> _Contacts:
    """Find where labels face each other down the rows and along the columns."""
    parts = []
    for axis, step in enumerate(([1, 0], [0, 1])):
        head, tail = (index[:-1], index[1:]) if axis == 0 else (index[:, :-1], index[:, 1:])
        ends = np.argwhere((head != tail) & (head > 0))
        for gap in range(GAP_PX + 1):
            facing = ends + np.array(step) * (gap + 1)
            ends, facing = ends[facing[:, axis] < index.shape[axis]], facing[facing[:, axis] < index.shape[axis]]
            here, there = index[tuple(ends.T)], index[tuple(facing.T)]
            touch = (there > 0) & (there != here)
            parts.append((here[touch], there[touch], ends[touch], facing[touch], np.tile(step, (touch.sum(), 1))))
            ends = ends[there == 0]
    first, second, at_first, at_second, step_rc = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _Contacts(first, second, at_first, at_second, -step_rc)


def _beside(
    index: NDArray[np.int32],
    values: NDArray[np.float32],
    contacts: _Contacts,
    pair: NDArray[np.int64],
    swapped: NDArray[np.bool_],
    upsampling: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and MAD of the depth inside each side of each pair's boundary, (pairs, 2)."""
    n_sides = 2 * (int(pair.max()) + 1)
    sides = (
        (2 * pair + swapped, contacts.first, contacts.at_first, contacts.inward),
        (2 * pair + ~swapped, contacts.second, contacts.at_second, -contacts.inward),
    )
    skip, reach = round(SKIP_PX * upsampling), round(REACH_PX * upsampling)
    deep = _samples(index, values, sides, range(skip, reach + 1), n_sides)
    shallow = _samples(index, values, sides, range(skip), n_sides)  # where a label is too thin for the others
    median = np.where(deep.count > 0, deep.quantile(0.5), shallow.quantile(0.5))
    mad = np.where(deep.count > 0, deep.mad(), shallow.mad())
    return median.reshape(-1, 2), mad.reshape(-1, 2)


def _samples(
    index: NDArray[np.int32],
    values: NDArray[np.float32],
    sides: tuple[tuple[NDArray[Any], ...], ...],
    steps: range,
    n_sides: int,
) -> Grouped:
    """Collect the depth at `steps` pixels straight in from each contact, as long as it is the same label."""
    groups, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for side, label, at, inward in sides:
        for step in steps:
            rows, cols = (at + step * inward).T
            inside = (rows >= 0) & (cols >= 0) & (rows < index.shape[0]) & (cols < index.shape[1])
            rows, cols = rows[inside], cols[inside]
            depth = values[rows, cols]
            use = (index[rows, cols] == label[inside]) & ~np.isnan(depth)
            groups.append(side[inside][use])
            found.append(depth[use])
    return Grouped.of(np.concatenate(groups), np.concatenate(found), n_sides)
