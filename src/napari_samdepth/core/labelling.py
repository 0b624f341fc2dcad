"""Writing masks into labels, as small changes that apply and revert exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.resample import Box

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class LabelPatch:
    """A change of labels: only the pixels that change, inside the smallest box around them.

    Attributes
    ----------
    box
        (row_min, col_min, row_max, col_max) in image pixels, half open; every border of it holds a changed pixel.
    changed
        (h, w) bool inside the box, True where a label changes.
    before, after
        (k,) labels of the changed pixels in row-major order, in the labels' dtype; where they are all the same, one
        value seen k times (no memory).
    """

    box: Box
    changed: NDArray[np.bool_]
    before: IntArray
    after: IntArray

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the box in an image-sized array."""
        row_min, col_min, row_max, col_max = self.box
        return slice(row_min, row_max), slice(col_min, col_max)

    @property
    def indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(rows, cols) of the changed pixels in the image, in the order of `before` and `after`."""
        rows, cols = np.nonzero(self.changed)
        return rows + self.box[0], cols + self.box[1]

    @property
    def count(self) -> int:
        """Number of changed pixels."""
        return len(self.before)

    def apply(self, labels: IntArray) -> None:
        """Write `after` into `labels` (H, W), in place."""
        labels[self.slices][self.changed] = self.after

    def revert(self, labels: IntArray) -> None:
        """Write `before` into `labels` (H, W), in place: undoes `apply` exactly."""
        labels[self.slices][self.changed] = self.before


def write_mask(labels: IntArray, patch: Patch, label: int, preserve: bool = True) -> LabelPatch | None:
    """Return the change that writes a mask into labels; the labels themselves are left as they are.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background; may be a view into a larger array.
    patch
        The mask; what lies outside the image is left out.
    label
        The number to write; 0 erases (then `preserve` must be False).
    preserve
        Never overwrite a pixel that holds another label.

    Returns
    -------
    The change, or None where nothing changes.

    Raises
    ------
    ValueError
        If `labels` are not (H, W) integers, or their dtype cannot hold `label` (see `widened`).
    """
    _check(labels, label)
    box = _clipped(patch.box, labels.shape)
    if box is None:
        return None
    there = labels[box[0] : box[2], box[1] : box[3]]
    row, col = patch.origin
    mask = patch.mask[box[0] - row : box[2] - row, box[1] - col : box[3] - col]
    allowed = (there == 0) if preserve else (there != label)
    return _change(there, mask & allowed & (there != label), label, box)


def change_label(labels: IntArray, added: Patch, removed: Patch, label: int) -> LabelPatch | None:
    """Return the change that adds pixels to a label, where nothing is labelled yet, and takes others out of it.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background.
    added, removed
        Masks; what lies outside the image is left out, and other labels stay as they are.
    label
        The number, above 0.

    Returns
    -------
    The change, or None where nothing changes.

    Raises
    ------
    ValueError
        If `labels` are not (H, W) integers, their dtype cannot hold `label`, or it is not above 0.
    """
    _check(labels, label)
    if label == 0:
        raise ValueError("change_label needs a label above 0, got 0; use write_mask to erase.")
    boxes = [box for patch in (added, removed) if (box := _clipped(patch.box, labels.shape)) is not None]
    if not boxes:
        return None
    low, high = np.min([box[:2] for box in boxes], axis=0), np.max([box[2:] for box in boxes], axis=0)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    there = labels[box[0] : box[2], box[1] : box[3]]
    target = there.copy()
    target[_within(removed, box) & (there == label)] = 0
    target[_within(added, box) & (there == 0)] = label
    return _change(there, there != target, target, box)


def _within(patch: Patch, box: Box) -> NDArray[np.bool_]:
    """Return a mask inside a box (h, w) bool."""
    out = np.zeros((box[2] - box[0], box[3] - box[1]), dtype=bool)
    row_min, col_min, row_max, col_max = patch.box
    low = max(row_min, box[0]), max(col_min, box[1])
    high = min(row_max, box[2]), min(col_max, box[3])
    if low[0] < high[0] and low[1] < high[1]:
        part = patch.mask[low[0] - row_min : high[0] - row_min, low[1] - col_min : high[1] - col_min]
        out[low[0] - box[0] : high[0] - box[0], low[1] - box[1] : high[1] - box[1]] = part
    return out


def write_labels(
    labels: IntArray, new: IntArray, origin: tuple[int, int] = (0, 0), preserve: bool = True
) -> LabelPatch | None:
    """Return the one change that writes many labels.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background.
    new
        (h, w) integers; 0 leaves a pixel as it is.
    origin
        (row, col) of ``new[0, 0]`` in the image.
    preserve
        Never overwrite a pixel that holds another label.

    Raises
    ------
    ValueError
        If `labels` are not (H, W) integers, or their dtype cannot hold the largest new label.
    """
    _check(labels, int(new.max(initial=0)))
    row, col = origin
    box = _clipped((row, col, row + new.shape[0], col + new.shape[1]), labels.shape)
    if box is None:
        return None
    there = labels[box[0] : box[2], box[1] : box[3]]
    part = new[box[0] - row : box[2] - row, box[1] - col : box[3] - col]
    changed = (part != 0) & (there != part)
    return _change(there, changed & (there == 0) if preserve else changed, part, box)


def erase_label(labels: IntArray, label: int) -> LabelPatch | None:
    """Return the change that makes every pixel of `label` background, or None where there is none."""
    _check(labels, label)
    return None if label == 0 else _change(labels, labels == label, 0, (0, 0, *labels.shape))


def relabelled(labels: IntArray, target: IntArray, box: Box | None = None) -> LabelPatch | None:
    """Return the change that makes labels be `target`, or None where they are.

    Parameters
    ----------
    labels
        (H, W) integers.
    target
        (h, w) integers that the labels' dtype holds.
    box
        Where `target` lies, (row_min, col_min, row_max, col_max) inside the image; None for all of it.
    """
    box = box or (0, 0, labels.shape[0], labels.shape[1])
    there = labels[box[0] : box[2], box[1] : box[3]]
    return _change(there, there != target, target, box)


def next_label(labels: ArrayLike) -> int:
    """Return the smallest number above every label in `labels` (any shape), at least 1."""
    return int(np.asarray(labels).max(initial=0)) + 1


def widened(dtype: DTypeLike, value: int) -> np.dtype[Any]:
    """Return `dtype` if it can hold `value`, else the smallest integer dtype that holds it and all of `dtype`.

    Raises
    ------
    ValueError
        If `value` is negative, needs more than 64 bits (63 where `dtype` holds negative labels as well), or `dtype` is
        not an integer or bool dtype.
    """
    old = np.dtype(dtype)
    if old.kind not in "biu":
        raise ValueError(f"Labels must be integers, got dtype {old}.")
    least = np.iinfo(old).min if old.kind == "i" else 0
    # numpy's own promotion of signed and unsigned 64 bits is float64, which cannot tell large labels apart
    for new in (old, *map(np.dtype, ("i1", "i2", "i4", "i8") if least else ("u1", "u2", "u4", "u8"))):
        if new.kind != "b" and new.itemsize >= old.itemsize and 0 <= value <= np.iinfo(new).max:
            return new
    raise ValueError(f"A label must be between 0 and {2 ** (63 if least else 64) - 1} in {old}, got {value}.")


def as_numbers(labels: IntArray) -> IntArray:
    """Return labels as int64, or as uint64 where one needs all 64 bits."""
    wide = labels.dtype.kind == "u" and int(labels.max(initial=0)) > np.iinfo(np.int64).max
    return labels.astype(np.uint64 if wide else np.int64, copy=False)


def _check(labels: IntArray, label: int) -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"Labels must be integers of shape (H, W), got {labels.dtype} of shape {labels.shape}.")
    if not 0 <= label <= np.iinfo(labels.dtype).max:
        raise ValueError(
            f"Label {label} does not fit into labels of dtype {labels.dtype}; convert them with widened() first."
        )


def _clipped(box: Box, shape: tuple[int, ...]) -> Box | None:
    """Return the part of `box` inside an image of `shape`, or None where they do not meet."""
    row_min, col_min, row_max, col_max = box
    inside = max(row_min, 0), max(col_min, 0), min(row_max, shape[0]), min(col_max, shape[1])
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def _change(there: IntArray, changed: NDArray[np.bool_], after: IntArray | int, box: Box) -> LabelPatch | None:
    """Return the change of `there`, the labels inside `box`, where `changed`, cropped to the changed pixels."""
    rows = np.flatnonzero(changed.any(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(changed.any(axis=0))
    crop = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
    small = np.ascontiguousarray(changed[crop])
    before = _compact(there[crop][small])
    values = after[crop][small] if isinstance(after, np.ndarray) else np.full(len(before), after)
    small.flags.writeable = False
    return LabelPatch(
        box=(box[0] + crop[0].start, box[1] + crop[1].start, box[0] + crop[0].stop, box[1] + crop[1].stop),
        changed=small,
        before=before,
        after=_compact(values.astype(there.dtype)),
    )


def _compact(values: IntArray) -> IntArray:
    """Return `values` read-only, as one value seen many times where they are all the same."""
    if (values == values[0]).all():
        return np.broadcast_to(values[0].copy(), values.shape)
    values.flags.writeable = False
    return values
