"""An array that is NaN but for the planes put into it, and takes memory for these alone."""

from __future__ import annotations

import math
from operator import index
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Key = tuple[int | slice, ...]


class SparseStack:
    """n-D float32, read like an array; all that napari asks of a layer's data (its `LayerDataProtocol`).

    Planes may lie along any two axes; where two of them cross, the one put there later counts.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with NaN everywhere."""
        self.shape = shape
        # by where they lie: None along the plane's two axes
        self._planes: dict[tuple[int | None, ...], NDArray[np.float32]] = {}

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels, with and without values."""
        return math.prod(self.shape)

    @property
    def held(self) -> int:
        """Bytes that the planes take."""
        return sum(plane.nbytes for plane in self._planes.values())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return what an array would give for integers and slices; other keys, as arrays, need all of it at once.

        Taken whole it stays as it is: napari does so before it takes the shown plane.
        """
        plain = self._plain(key)
        if plain is None:
            return np.asarray(self)[key]
        return self if all(at == slice(None) for at in plain) else self._read(plain)

    def __setitem__(self, key: Any, values: NDArray[np.floating[Any]]) -> None:
        """Put a plane: `key` holds two full slices, for its axes, and integers.

        Raises
        ------
        ValueError
            If `key` does not take one whole plane, or the values are not of its shape.
        """
        plain = self._plain(key) or ()
        place = tuple(None if isinstance(at, slice) else at for at in plain)
        if place.count(None) != 2 or any(isinstance(at, slice) and at != slice(None) for at in plain):
            raise ValueError(f"A plane is put by two full slices and integers for the other axes, got {key!r}.")
        shape = tuple(side for side, at in zip(self.shape, place, strict=True) if at is None)
        if np.shape(values) != shape:
            raise ValueError(f"The plane has shape {shape}, got values of shape {np.shape(values)}.")
        self._planes.pop(place, None)
        self._planes[place] = np.array(values, dtype=np.float32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it, in memory."""
        if copy is False:
            raise ValueError("A SparseStack has to be copied to become an array.")
        return np.asarray(self._read((slice(None),) * self.ndim), dtype=dtype)

    def _plain(self, key: Any) -> Key | None:
        """Return one integer or slice per axis, None where the key holds anything else."""
        keys = list(key) if isinstance(key, tuple) else [key]
        gaps = [at for at, each in enumerate(keys) if isinstance(each, EllipsisType)]
        missing = self.ndim - (len(keys) - len(gaps))
        if len(gaps) > 1 or missing < 0:
            raise IndexError(f"An index of a stack with {self.ndim} axes is too long: {key!r}.")
        at = gaps[0] if gaps else len(keys)
        keys[at : at + len(gaps)] = [slice(None)] * missing
        plain: list[int | slice] = []
        for each, side in zip(keys, self.shape, strict=True):
            if isinstance(each, slice):
                plain.append(each)
            elif isinstance(each, int | np.integer) and not isinstance(each, bool):
                plain.append(_inside(index(each), side))
            else:
                return None
        return tuple(plain)

    def _read(self, key: Key) -> Any:
        spans = [
            range(*at.indices(side)) if isinstance(at, slice) else at for at, side in zip(key, self.shape, strict=True)
        ]
        out = np.full([len(span) for span in spans if isinstance(span, range)], np.nan, dtype=np.float32)
        for place, plane in self._planes.items():
            target = _target(place, spans)
            if target is not None:
                source = tuple(at for at, fixed in zip(key, place, strict=True) if fixed is None)
                out[target] = plane[source]
        # of a single pixel the number
        return out[()]


def _target(place: tuple[int | None, ...], spans: list[range | int]) -> tuple[int | slice, ...] | None:
    """Return where a plane goes in what is read, None where it does not lie in it."""
    target: list[int | slice] = []
    for fixed, span in zip(place, spans, strict=True):
        if fixed is None:
            target += [slice(None)] if isinstance(span, range) else []
        elif isinstance(span, range):
            if fixed not in span:
                return None
            target.append(span.index(fixed))
        elif span != fixed:
            return None
    return tuple(target)


def _inside(at: int, side: int) -> int:
    if not -side <= at < side:
        raise IndexError(f"Position {at} lies outside of an axis of {side}.")
    return at % side
