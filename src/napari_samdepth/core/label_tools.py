"""Tools on labels that are there: delete, merge, split, fill holes, keep the largest piece, smooth.

Each returns a change (`LabelPatch`) and leaves the labels as they are. No tool writes over another label.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.labelling import IntArray, LabelPatch, relabelled
from napari_samdepth.core.resample import Box

EIGHT = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner are one piece."""
SMOOTHING = 2.0
"""Standard deviation of the Gaussian that smooths an outline, in pixels."""


def delete_labels(labels: IntArray, numbers: Collection[int]) -> LabelPatch | None:
    """Return the change that makes labels background.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background.
    numbers
        The labels; 0 and those that are not there change nothing.

    Returns
    -------
    The change, or None where nothing changes.
    """
    return _with_value(labels, numbers, 0)


def merge_labels(labels: IntArray, numbers: Collection[int], into: int) -> LabelPatch | None:
    """Return the change that gives the pixels of labels the number `into`; parameters as in `delete_labels`.

    Raises
    ------
    ValueError
        If `into` is not above 0.
    """
    if into <= 0:
        raise ValueError(f"Labels are merged into a label above 0, got {into}.")
    return _with_value(labels, set(numbers) - {into}, into)


def split_label(
    labels: IntArray, label: int, first: tuple[float, float], second: tuple[float, float], number: int
) -> LabelPatch | None:
    """Return the change that splits a label in two: the part of the second point gets another number.

    A watershed of the distance to the label's outline, from the two points on: the cut runs where the label is narrow.
    Pieces that neither point reaches stay as they are.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background.
    label
        The label.
    first, second
        (row, col) in each of the parts; `first` keeps its number.
    number
        What the part of `second` becomes.

    Returns
    -------
    The change, or None where nothing changes.

    Raises
    ------
    ValueError
        If the points do not lie on two pixels of the label.
    """
    from skimage.segmentation import watershed

    box = box_of(labels, label)
    seeds = [(int(np.floor(row + 0.5)), int(np.floor(col + 0.5))) for row, col in (first, second)]
    for row, col in seeds:
        inside = 0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]
        if box is None or not inside or labels[row, col] != label:
            raise ValueError(f"Click on label {label} twice, once in each part.")
    if box is None or seeds[0] == seeds[1]:
        raise ValueError(f"Click in two places of label {label}, once in each part.")
    mask = _padded(labels, label, box)
    inside_box = [(row - box[0] + 1, col - box[1] + 1) for row, col in seeds]
    depth = ndimage.distance_transform_edt(mask)
    tops = [_top(depth, seed) for seed in inside_box]
    markers = np.zeros(mask.shape, dtype=np.int32)
    for at, seed in enumerate(inside_box if tops[0] == tops[1] else tops):
        markers[seed] = at + 1
    # what lies deeper than the shallower of both is level: a basin does not run over before the other one begins
    level = min(depth[markers > 0])
    parts = watershed(-np.minimum(depth, level), markers, connectivity=EIGHT, mask=mask)
    return _written(labels, box, parts[1:-1, 1:-1] == 2, number)


def fill_holes(labels: IntArray, label: int) -> LabelPatch | None:
    """Return the change that fills background that a label encloses; other labels in its holes stay.

    Parameters and result as in `split_label`.
    """
    box = box_of(labels, label)
    if box is None:
        return None
    mask = _padded(labels, label, box)
    # what touches the outside at a corner alone is no hole
    filled = ndimage.binary_fill_holes(mask)[1:-1, 1:-1]
    return _written(labels, box, filled & (_within(labels, box) == 0), label)


def keep_largest(labels: IntArray, label: int) -> LabelPatch | None:
    """Return the change that makes all pieces of a label but the largest background (of two alike the upper stays).

    Pixels that touch at a corner are one piece. Parameters and result as in `split_label`.
    """
    box = box_of(labels, label)
    if box is None:
        return None
    pieces, count = ndimage.label(_within(labels, box) == label, EIGHT)
    if count < 2:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    return _written(labels, box, (pieces > 0) & (pieces != np.argmax(sizes) + 1), 0)


def smooth_label(labels: IntArray, label: int, sigma: float = SMOOTHING) -> LabelPatch | None:
    """Return the change that smooths a label's outline: what a Gaussian of its mask holds above a half.

    Other labels stay as they are, and the image's border counts as if the label went on beyond it.

    Parameters
    ----------
    labels, label
        As in `split_label`.
    sigma
        Standard deviation of the Gaussian, in pixels.

    Raises
    ------
    ValueError
        If nothing would be left of the label.
    """
    box = box_of(labels, label)
    if box is None:
        return None
    margin = int(np.ceil(4 * sigma))
    low = max(box[0] - margin, 0), max(box[1] - margin, 0)
    high = min(box[2] + margin, labels.shape[0]), min(box[3] + margin, labels.shape[1])
    wide: Box = (*low, *high)
    held = _within(labels, wide)
    mask = held == label
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest") > 0.5
    target = np.where(smooth & (held == 0), label, np.where(mask & ~smooth, 0, held)).astype(labels.dtype)
    if not (target == label).any():
        raise ValueError(f"Label {label} is too small to be smoothed.")
    return relabelled(labels, target, wide)


def box_of(labels: IntArray, label: int) -> Box | None:
    """Return the box around a label of (H, W), half open, None where it is not there."""
    held = labels == label
    rows, cols = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
    if label == 0 or not rows.size:
        return None
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1


def _top(depth: NDArray[np.float64], start: tuple[int, int]) -> tuple[int, int]:
    """Return where one comes from a pixel by always going on to the highest of its 24 neighbours."""
    at = start
    while True:
        low = max(at[0] - 2, 0), max(at[1] - 2, 0)
        around = depth[low[0] : at[0] + 3, low[1] : at[1] + 3]
        row, col = np.unravel_index(int(np.argmax(around)), around.shape)
        if around[row, col] <= depth[at]:
            return at
        at = (low[0] + int(row), low[1] + int(col))


def _within(labels: IntArray, box: Box) -> IntArray:
    return labels[box[0] : box[2], box[1] : box[3]]


def _padded(labels: IntArray, label: int, box: Box) -> NDArray[np.bool_]:
    """Return the mask of a label in its box, with a rim of one pixel of background."""
    return np.pad(_within(labels, box) == label, 1)


def _written(labels: IntArray, box: Box, where: NDArray[np.bool_], value: int) -> LabelPatch | None:
    return relabelled(labels, np.where(where, labels.dtype.type(value), _within(labels, box)), box)


def _with_value(labels: IntArray, numbers: Collection[int], value: int) -> LabelPatch | None:
    wanted = [number for number in numbers if 0 < number <= np.iinfo(labels.dtype).max]
    if not wanted:
        return None
    held = np.isin(labels, np.array(wanted, dtype=labels.dtype))
    return relabelled(labels, np.where(held, labels.dtype.type(value), labels), (0, 0, *labels.shape))
