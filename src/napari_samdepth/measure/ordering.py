"""Which of two labels that touch is in front; unsure is an answer.

Depth is compared a few pixels inside each shared boundary: at the boundary itself a depth map is blurred, and far from
it a tilted surface says nothing about who covers whom. Medians are compared because their order is the same in inverse
depth and in distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.depth_range import depth_range, single
from napari_samdepth.measure.regions import Regions
from napari_samdepth.measure.statistics import MAD_TO_SIGMA, Grouped

Ints = NDArray[np.int64]
Relation = Literal["front", "behind", "unsure"]

SKIP_PX = 2
"""Samples of the depth next to the boundary that are not compared, where the label is thick enough."""
REACH_PX = 5
"""How far inside the boundary, in samples of the depth, it is compared."""
GAP_PX = 2
"""Labels touch if they face each other across at most this many background pixels, or one sample of the depth."""
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


def order_touching(regions: Regions, depth: DepthMap, k: float = 1.0) -> list[Order]:
    """Return the order of every pair of labels that touch.

    Parameters
    ----------
    regions
        Of labels (H, W).
    depth
        Depth of the same image, (H, W); its `upsampling` says how far inside the boundary it is compared.
    k
        Unsure where the difference is at most `k` times the noise, or less than `MIN_DIFFERENCE`.

    Returns
    -------
    One entry per pair, by first and second label.
    """
    gap = max(GAP_PX, round(depth.upsampling))
    contacts = _across(regions, gap), _down(regions.index, gap)
    codes = [_pair_code(contact, len(regions)) for contact in contacts]
    keys, pair = np.unique(np.concatenate(codes), return_inverse=True)
    if not keys.size:
        return []
    pairs = pair[: len(codes[0])], pair[len(codes[0]) :]
    median, mad = _beside(regions.index, single(depth), contacts, pairs, depth.upsampling)
    extent = depth_range(depth)
    difference = extent.sign * (median[:, 0] - median[:, 1]) / extent.span
    noise = MAD_TO_SIGMA * np.sqrt((mad**2).mean(axis=1)) / extent.span
    sure = (np.abs(difference) > k * noise) & (np.abs(difference) >= MIN_DIFFERENCE)
    relation = np.where(sure, np.where(difference > 0, "front", "behind"), "unsure")
    first, second = regions.numbers[keys // len(regions)], regions.numbers[keys % len(regions)]
    contact = np.bincount(pair)
    columns = (first, second, relation, difference, noise, contact)
    return [Order(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _pair_code(contacts: _Contacts, n_labels: int) -> Ints:
    """Return one number for each unordered pair of labels."""
    low, high = np.minimum(contacts.first, contacts.second), np.maximum(contacts.first, contacts.second)
    return low.astype(np.int64) * n_labels + high


@dataclass(frozen=True, eq=False)
class _Contacts:
    """Pairs of pixels of two labels that face each other along one axis.

    ``first`` and ``second`` are (n,) label indices, ``at_first`` and ``at_second`` the flat positions of their pixels,
    and ``step`` is how far apart two pixels along the axis are in flat positions.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    at_first: Ints
    at_second: Ints
    step: int


def _down(index: NDArray[np.int32], widest: int) -> _Contacts:
    """Find where one label lies above another."""
    width, flat = index.shape[1], index.reshape(-1)
    ends = index[:-1] != index[1:]
    ends &= index[:-1] > 0
    above = np.flatnonzero(ends)
    parts = [(above[:0], above[:0])]
    for gap in range(1, widest + 2):
        above = above[above + gap * width < flat.size]
        below = above + gap * width
        there = flat[below]
        touch = (there > 0) & (there != flat[above])
        parts.append((above[touch], below[touch]))
        above = above[there == 0]
    at_first, at_second = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _Contacts(flat[at_first], flat[at_second], at_first, at_second, width)


def _across(regions: Regions, widest: int) -> _Contacts:
    """Find where one label lies left of another, from the runs of the rows."""
    width = regions.index.shape[1]
    row = regions.run_start // width
    is_label = regions.run_index > 0
    next_to = is_label[:-1] & is_label[1:] & (row[:-1] == row[1:])
    left = [np.flatnonzero(next_to)]
    right = [left[0] + 1]
    narrow = ~is_label[1:-1] & (regions.run_length[1:-1] <= widest)
    over = narrow & is_label[:-2] & is_label[2:] & (row[:-2] == row[2:])
    over &= regions.run_index[:-2] != regions.run_index[2:]
    left.append(np.flatnonzero(over))
    right.append(left[1] + 2)
    lefts, rights = np.concatenate(left), np.concatenate(right)
    at_first = regions.run_start[lefts] + regions.run_length[lefts] - 1
    return _Contacts(regions.run_index[lefts], regions.run_index[rights], at_first, regions.run_start[rights], 1)


def _beside(
    index: NDArray[np.int32],
    values: NDArray[np.float32],
    contacts: tuple[_Contacts, ...],
    pairs: tuple[Ints, ...],
    upsampling: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and MAD of the depth inside each side of each pair's boundary, (pairs, 2)."""
    n_sides = 2 * (1 + max(int(pair.max(initial=0)) for pair in pairs))
    sides = []
    for contact, pair in zip(contacts, pairs, strict=True):
        second_is_low = contact.second < contact.first
        sides.append((2 * pair + second_is_low, contact.first, contact.at_first, -contact.step))
        sides.append((2 * pair + ~second_is_low, contact.second, contact.at_second, contact.step))
    skip, reach, sample = round(SKIP_PX * upsampling), round(REACH_PX * upsampling), max(int(upsampling), 1)
    deep = _samples(index, values, sides, range(skip, reach + 1, sample), n_sides)
    shallow = _samples(
        index, values, sides, range(0, skip, sample), n_sides
    )  # where a label is too thin for the others
    median = np.where(deep.count > 0, deep.quantile(0.5), shallow.quantile(0.5))
    mad = np.where(deep.count > 0, deep.mad(), shallow.mad())
    return median.reshape(-1, 2), mad.reshape(-1, 2)


def _samples(
    index: NDArray[np.int32],
    values: NDArray[np.float32],
    sides: list[tuple[Ints, NDArray[np.int32], Ints, int]],
    steps: range,
    n_sides: int,
) -> Grouped:
    """Collect the depth at `steps` pixels straight in from each contact, where it is the same label."""
    labels, depths, width = index.reshape(-1), values.reshape(-1), index.shape[1]
    groups, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for side, label, at, inward in sides:
        col = at % width if abs(inward) == 1 else None
        for step in steps:
            there = at + step * inward
            inside = (there >= 0) & (there < labels.size)
            if col is not None:  # along a row, do not run on into the next one
                inside &= (col + step * inward >= 0) & (col + step * inward < width)
            there = np.where(inside, there, 0)
            depth = depths[there]
            use = inside & (labels[there] == label) & ~np.isnan(depth)
            groups.append(side[use])
            found.append(depth[use])
    return Grouped.of(np.concatenate(groups), np.concatenate(found), n_sides)
