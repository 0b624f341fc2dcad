"""DepthMap: depth per pixel together with what its numbers mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

DepthKind = Literal["inverse", "distance", "height", "index"]
"""inverse: larger is nearer, up to scale and shift. distance: larger is farther. height: larger is nearer to a
viewer above (AFM, profilometers). index: focus or slice index, larger is farther."""

NEAR_SIGN: dict[DepthKind, int] = {"inverse": 1, "distance": -1, "height": 1, "index": -1}
"""+1 where larger values are nearer to the viewer, -1 where they are farther."""


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depth of an image.

    Attributes
    ----------
    values
        (H, W) float32, or float64 where float32 would round them: heights near 4e8 nm keep their nanometres. NaN where
        there is no measurement (infinities are made NaN).
    kind
        What larger values mean, see `DepthKind`.
    unit
        Unit of the values ("m", "nm", ...), or None where they are relative.
    source
        Where the values come from: a model's name and checkpoint, or a layer's name.
    upsampling
        Pixels of the image per sample of what gave the depth, along one axis, at least 1: how far the values were
        enlarged to the image's size, and so how wide they are blurred at edges. Where rows and columns differ, the
        root of their product.

    Raises
    ------
    ValueError
        If the values are not (H, W), the kind is unknown, or `upsampling` is below 1 or not finite.
    """

    values: NDArray[np.floating[Any]]
    kind: DepthKind
    unit: str | None = None
    source: str = ""
    upsampling: float = 1.0

    def __post_init__(self) -> None:
        values = np.array(as_depth(np.asarray(self.values)))
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"DepthMap.values must have shape (H, W), got shape {values.shape}.")
        if self.kind not in get_args(DepthKind):
            raise ValueError(f"DepthMap.kind must be one of {', '.join(get_args(DepthKind))}, got {self.kind!r}.")
        if not (math.isfinite(self.upsampling) and self.upsampling >= 1):
            raise ValueError(f"DepthMap.upsampling must be at least 1 pixel per sample, got {self.upsampling}.")
        values[~np.isfinite(values)] = np.nan
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "upsampling", float(self.upsampling))

    @property
    def near_sign(self) -> int:
        """+1 where larger values are nearer, -1 where they are farther."""
        return NEAR_SIGN[self.kind]


def upsampling_between(sampled: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return `DepthMap.upsampling` of a map of `sampled` (h, w) samples that was brought to `shape` (H, W)."""
    return max(math.sqrt(math.prod(shape) / math.prod(sampled)), 1.0)


def as_depth(values: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return real numbers as float32 where that holds them exactly, else as float64; the array itself if it is that."""
    with np.errstate(over="ignore"):
        single: NDArray[np.floating[Any]] = values.astype(np.float32, copy=False)
    if np.result_type(values.dtype, np.float32) == np.float32 or np.array_equal(single, values, equal_nan=True):
        return single
    double: NDArray[np.floating[Any]] = values.astype(np.float64, copy=False)
    return double
