"""Where each label is: its number, area, box and centroid, and images indexed by label, from runs of equal pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.labelling import as_numbers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regions:
    """The labels of an image; the first axis of every per-label array is the background, then the labels in order.

    Attributes
    ----------
    numbers
        (n + 1,) int64, or uint64 where labels need it, the label at each index; 0 for the background at index 0.
    index
        (H, W) int32, the index of each pixel's label.
    run_start, run_length, run_index
        (runs,) flat position, length and label index of each run of equal pixels in a row.
    """

    numbers: NDArray[np.integer[Any]]
    index: NDArray[np.int32]
    run_start: Ints
    run_length: Ints
    run_index: NDArray[np.int32]

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]]) -> Regions:
        """Find the labels in `labels`, (H, W) integers; every number but 0 is a label."""
        flat = np.ascontiguousarray(labels).reshape(-1)
        begins = np.ones(flat.size, dtype=bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        begins[:: labels.shape[1]] = True
        start = np.flatnonzero(begins)
        length = np.diff(start, append=flat.size)
        of_run = flat[start]
        found = np.unique(of_run)
        some = as_numbers(found[found != 0])
        numbers = np.concatenate([np.zeros(1, dtype=some.dtype), some])
        order = np.searchsorted(found, of_run)
        place = np.cumsum(found != 0) * (found != 0)
        run_index = place[order].astype(np.int32)
        return cls(numbers, np.repeat(run_index, length).reshape(labels.shape), start, length, run_index)

    def __len__(self) -> int:
        """Return the number of entries per label: the labels and the background."""
        return len(self.numbers)

    @property
    def area(self) -> Ints:
        """(n + 1,) pixels."""
        return self._total(self.run_length).astype(np.int64)

    def centroid(self) -> tuple[Floats, Floats]:
        """Return the mean row and the mean column of each label, in pixels (the first pixel's centre is 0)."""
        rows, cols = np.divmod(self.run_start, self.index.shape[1])
        area = np.maximum(self._total(self.run_length), 1)
        middle = cols + (self.run_length - 1) / 2
        return self._total(rows * self.run_length) / area, self._total(middle * self.run_length) / area

    def boxes(self) -> Ints:
        """Return (n + 1, 4): row_min, col_min, row_max, col_max, half open, in pixels."""
        rows, cols = np.divmod(self.run_start, self.index.shape[1])
        out = np.empty((len(self), 4), dtype=np.int64)
        out[:, :2], out[:, 2:] = self.index.size, 0
        np.minimum.at(out[:, 0], self.run_index, rows)
        np.minimum.at(out[:, 1], self.run_index, cols)
        np.maximum.at(out[:, 2], self.run_index, rows + 1)
        np.maximum.at(out[:, 3], self.run_index, cols + self.run_length)
        return out

    def largest(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the largest value of a non-negative `image` (H, W) in each label, (n + 1,)."""
        out = np.zeros(len(self), dtype=image.dtype)
        np.maximum.at(out, self.run_index, np.maximum.reduceat(image.reshape(-1), self.run_start))
        return out

    def number_of(self, flags: NDArray[np.bool_]) -> Ints:
        """Return how many pixels of each label are set in `flags` (H, W), (n + 1,)."""
        return np.bincount(self.index[flags], minlength=len(self))

    def _total(self, per_run: NDArray[Any]) -> Floats:
        return np.bincount(self.run_index, weights=per_run, minlength=len(self)).astype(np.float64, copy=False)
