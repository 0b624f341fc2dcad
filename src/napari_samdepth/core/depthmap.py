"""DepthMap: depth per pixel together with what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

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
        (H, W) float32; NaN where there is no measurement (infinities are made NaN).
    kind
        What larger values mean, see `DepthKind`.
    unit
        Unit of the values ("m", "nm", ...), or None where they are relative.
    source
        Where the values come from: a model's name and checkpoint, or a layer's name.
    """

    values: NDArray[np.float32]
    kind: DepthKind
    unit: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"DepthMap.values must have shape (H, W), got shape {values.shape}.")
        if self.kind not in get_args(DepthKind):
            raise ValueError(f"DepthMap.kind must be one of {', '.join(get_args(DepthKind))}, got {self.kind!r}.")
        values[~np.isfinite(values)] = np.nan
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @property
    def near_sign(self) -> int:
        """+1 where larger values are nearer, -1 where they are farther."""
        return NEAR_SIGN[self.kind]
