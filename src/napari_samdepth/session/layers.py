"""Reading planes out of napari layers. Main thread only, but for `render`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.plane import Limits, Plane, to_rgb
from napari_samdepth.session.geometry import Shown, in_view, shown_plane, thick_slice, unit_factors

MAX_SIDE = 4096
"""Longest side in pixels of a multiscale level that is given to a model."""

METADATA_KEY = "napari-samdepth"
PROJECTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}
"""napari's ways to draw a thick slice."""


@dataclass(frozen=True, eq=False)
class PlaneSource:
    """A shown plane not yet computed: taken on the main thread, rendered on the lane.

    Attributes
    ----------
    shown
        Where the plane lies in the layer's data.
    data
        (H, W) or (H, W, 3 or 4), a view or a lazy array.
    rgb
        Whether the last axis holds colours.
    limits
        The layer's contrast limits.
    gamma
        The layer's gamma.
    projection
        How a thick slice becomes the plane: "sum", "mean", "max" or "min"; `data` then hold all axes. "" for one slice.
    """

    shown: Shown
    data: Any
    rgb: bool
    limits: Limits
    gamma: float
    projection: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the data's numbers."""
        found: np.dtype[Any] = np.dtype(self.data.dtype)
        return found

    def read(self) -> NDArray[Any]:
        """Return the plane's own values, (H, W) or (H, W, channels), projected as napari does. Any thread."""
        array = np.asarray(self.data)
        if self.projection:
            plane = (self.shown.rows_axis, self.shown.cols_axis)
            others = tuple(axis for axis in range(len(self.shown.point)) if axis not in plane)
            array = PROJECTIONS[self.projection](array, axis=others)
            array = array.swapaxes(0, 1) if plane[0] > plane[1] else array
        return array

    def render(self) -> Plane:
        """Compute the plane as the user sees it. Any thread."""
        return Plane(to_rgb(self.read(), contrast_limits=self.limits, gamma=self.gamma, rgb=self.rgb))


def read_view(image: Image, viewer: ViewerModel, points: NDArray[np.float64] | None = None) -> PlaneSource:
    """Return what `read_plane` does, of a picture larger than `MAX_SIDE` the part that is looked at.

    `points` (n, image.ndim) are data points that it has to hold. Raises LayerError as `read_plane` does.
    """
    return read_plane(image, viewer, in_view(image, viewer, MAX_SIDE, points))


def read_plane(image: Image, viewer: ViewerModel, shown: Shown | None = None) -> PlaneSource:
    """Return the plane of `image` that the viewer shows, not yet computed: of a thick slice its projection.

    `shown` is the window of it that is wanted; None takes all of it.

    Raises
    ------
    LayerError
        If no plane of the image is shown, or its values are complex.
    """
    if np.dtype(image.dtype).kind == "c":
        raise LayerError(f"“{image.name}” is complex; add its magnitude, numpy.abs(image), as an image instead.")
    shown = shown or shown_plane(image, viewer.dims, MAX_SIDE)
    low, high = (float(limit) for limit in image.contrast_limits)
    thick = thick_slice(image, shown, viewer.dims)
    data = plane_data(image, shown) if thick is None else shown.window_of(_level(image, shown), thick)
    projection = "" if thick is None else str(image.projection_mode)
    return PlaneSource(shown, data, bool(image.rgb), (low, high), float(image.gamma), projection)


def _level(layer: Image | Labels, shown: Shown) -> Any:
    return layer.data[shown.level] if layer.multiscale else layer.data


def plane_data(layer: Image | Labels, shown: Shown) -> Any:
    """Return the plane of a layer as (H, W) or (H, W, channels), from the multiscale level that `shown` names."""
    if not layer.multiscale:
        return shown.take(layer.data)
    level = layer.data[shown.level]
    factors = tuple(full / part for full, part in zip(layer.data[0].shape, level.shape, strict=True))
    return shown.take(level, factors[: layer.ndim])


def spatial_shape(image: Image | Labels) -> tuple[int, ...]:
    """Return the full-resolution shape of a layer without its colour axis."""
    shape = image.data[0].shape if image.multiscale else image.data.shape
    return tuple(int(size) for size in shape[: image.ndim])


def placement(layer: Layer) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer exactly where `layer` is."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def view_placement(layer: Layer, dims: Dims) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer exactly where `layer` is, in the view's units.

    napari 0.9 reads the place of a click, which is in the view's units, as if it were in those of the layer clicked in.
    """
    place, factors = placement(layer), unit_factors(layer, dims)
    if not np.array_equal(factors, np.ones(layer.ndim)):
        place["affine"] = np.diag([*factors, 1.0]) @ layer.affine.affine_matrix
        place["units"] = dims.units[-layer.ndim :]
    return place


def empty_on(image: Image, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Return zeros on the image's grid, which take memory where something is drawn; LayerError if it is too large."""
    shape = spatial_shape(image)
    try:
        return np.zeros(shape, dtype=dtype)
    except MemoryError as error:
        size = " × ".join(str(side) for side in shape)
        raise LayerError(
            f"“{image.name}” is too large for labels in memory ({size} pixels); crop it, or show a part of it."
        ) from error
