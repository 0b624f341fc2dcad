"""Reading planes out of napari layers and writing masks into them. Main thread only, but for `render`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.labelling import LabelPatch, widened
from napari_samdepth.core.plane import Limits, Plane, to_rgb
from napari_samdepth.measure.readout import plain_name
from napari_samdepth.session.geometry import Shown, in_view, plane_affine, shown_plane, thick_slice, unit_factors

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


def new_preview(image: Image) -> Labels:
    """Return the layer that shows the mask being made: uint8, 1 where the mask is, drawn in cyan."""
    colours = DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (0.0, 0.9, 1.0, 1.0)})
    return Labels(
        _nothing_on(image, np.uint8),
        name="SAM preview",
        colormap=colours,
        opacity=0.55,
        **placement(image),
    )


def new_masks(image: Image) -> Labels:
    """Return an empty Labels layer on the image's grid, uint16, for accepted masks."""
    return Labels(_nothing_on(image, np.uint16), name="SAM masks", **placement(image))


def _nothing_on(image: Image, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Return zeros on the image's grid, which take memory where something is drawn; LayerError if it is too large."""
    shape = spatial_shape(image)
    try:
        return np.zeros(shape, dtype=dtype)
    except MemoryError as error:
        size = " × ".join(str(side) for side in shape)
        raise LayerError(
            f"“{image.name}” is too large for labels in memory ({size} pixels); crop it, or show a part of it."
        ) from error


def check_writable(labels: Labels) -> None:
    """Raise LayerError where masks cannot be written into `labels`."""
    if labels.multiscale or not isinstance(labels.data, np.ndarray):
        raise LayerError(
            f"“{labels.name}” is {'multiscale' if labels.multiscale else 'not held in memory'} and cannot be written; "
            "choose an in-memory Labels layer or let the plugin make one."
        )
    if not labels.data.flags.writeable:
        raise LayerError(f"“{labels.name}” is read-only; duplicate the layer and choose the copy, or a new one.")
    if not labels.editable:
        raise LayerError(f"“{labels.name}” is locked; unlock it, or choose another Labels layer.")


def plane_view(labels: Labels, shown: Shown) -> NDArray[Any]:
    """Return the shown plane of an in-memory Labels layer as a writable view (H, W)."""
    view: NDArray[Any] = shown.take(labels.data)
    return view


def move_patch(
    patch: Patch, source: Layer, source_shown: Shown, target: Layer, target_shown: Shown, viewer: ViewerModel
) -> Patch:
    """Return a mask of the source's plane on the grid of the target's plane (nearest neighbour)."""
    matrix = plane_affine(target, target_shown, source, source_shown, viewer.dims)
    return transform_patch(patch, matrix, target_shown.shape)


def transform_patch(patch: Patch, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Patch:
    """Return `patch` on another grid.

    Parameters
    ----------
    patch
        Mask on the source grid.
    matrix
        (2, 3), takes (row, col, 1) of the target grid to the source grid.
    shape
        (H, W) of the target grid.
    """
    if patch.mask.size == 0 or np.array_equal(matrix, np.eye(2, 3)):
        return patch
    row_min, col_min, row_max, col_max = patch.box
    corners = np.array([[r, c] for r in (row_min - 1, row_max) for c in (col_min - 1, col_max)], dtype=np.float64)
    inverse = np.linalg.inv(matrix[:, :2])
    target = (corners - matrix[:, 2]) @ inverse.T
    low = np.clip(np.floor(target.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(target.max(axis=0)).astype(int) + 1, 0, shape)
    size = tuple(int(extent) for extent in high - low)
    if min(size) == 0:
        return Patch(np.zeros((0, 0), dtype=bool), (0, 0))
    offset = matrix[:, :2] @ low + matrix[:, 2] - np.array([row_min, col_min])
    moved = ndimage.affine_transform(
        patch.mask.astype(np.uint8), matrix[:, :2], offset=offset, output_shape=size, order=0, mode="constant"
    )
    return Patch(moved.astype(bool), (int(low[0]), int(low[1])))


def clipped(patch: Patch, shape: tuple[int, int]) -> Patch:
    """Return the part of a mask that lies inside a plane of `shape` (H, W)."""
    low = np.clip(patch.box[:2], 0, shape)
    high = np.clip(patch.box[2:], low, shape)
    row, col = patch.origin
    inside = patch.mask[low[0] - row : high[0] - row, low[1] - col : high[1] - col]
    return Patch(inside, (int(low[0]), int(low[1])))


def write_change(labels: Labels, shown: Shown, change: LabelPatch, revert: bool = False) -> None:
    """Write (or take back) a change of the shown plane, as one step of the layer's own undo history."""
    values = change.before if revert else change.after
    largest = int(values.max(initial=0))
    dtype = widened(labels.data.dtype, largest)
    if dtype != labels.data.dtype:
        labels.data = labels.data.astype(dtype)
    index = shown.full_index(*change.indices)
    uniform = len(values) > 0 and bool((values == values[0]).all())
    value = int(values[0]) if uniform else np.asarray(values, dtype=dtype)
    # another plugin may have switched on preserve_labels: data_setitem ignores it, and the change respects it itself
    labels.data_setitem(index, value)


def still_there(labels: Labels, shown: Shown, change: LabelPatch, revert: bool) -> bool:
    """Whether the pixels of a change hold what it wrote (to revert it) or what it found (to apply it again)."""
    expected = change.after if revert else change.before
    try:
        held = labels.data[shown.full_index(*change.indices)]
    except IndexError:
        return False
    return bool(np.array_equal(held, expected))


class PreviewWriter:
    """Draws one mask at a time into the preview layer, touching only what changes."""

    def __init__(self, layer: Labels) -> None:
        """Draw into `layer`."""
        self.layer = layer
        self._drawn: tuple[Shown, Patch] | None = None

    def draw(self, shown: Shown | None, patch: Patch | None) -> None:
        """Show `patch` (plane pixels of the full resolution) instead of what was drawn before; None clears."""
        data = self.layer.data
        if self._drawn is not None:
            shown_before, before = self._drawn
            shown_before.take(data)[before.slices][before.mask] = 0
        self._drawn = None
        if shown is not None and patch is not None and patch.mask.size:
            shown.take(data)[patch.slices][patch.mask] = 1
            self._drawn = (shown, patch)
        self.layer.refresh()


def write_features(labels: Labels, table: pd.DataFrame) -> None:
    """Write a table with an `index` column, by which napari matches labels, into the layer's features.

    Columns that the user has in `features` already and that the table does not bring stay, for all labels.
    """
    old, table = _alike(known_features(labels), table)
    brought = {plain_name(name) for name in table.columns}
    others = [name for name in old.columns if plain_name(name) not in brought]
    if others:
        told = old[["index", *others]].dropna(subset=others, how="all")
        table = table.merge(told, on="index", how="outer")
    labels.features = table


def _alike(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables whose label numbers are of one dtype: pandas joins int64 and uint64 as rounded floats."""
    dtypes = {table["index"].dtype for table in (first, second)}
    if len(dtypes) == 1 or np.dtype(np.uint64) not in dtypes:
        return first, second
    common = np.uint64 if all((table["index"] >= 0).all() for table in (first, second)) else object
    return first.astype({"index": common}), second.astype({"index": common})


def known_features(labels: Labels) -> pd.DataFrame:
    """Return the layer's features with a column `index`, each label once; without one napari counts the rows."""
    old: pd.DataFrame = labels.features
    if "index" not in old.columns:
        return old.assign(index=np.arange(len(old)))
    return old.drop_duplicates("index", keep="last")


def add_features(labels: Labels, table: pd.DataFrame) -> None:
    """Note in the features what is known of new labels (`index` and other columns); what is there of others stays."""
    old, table = _alike(known_features(labels), table)
    if len(old):
        table = pd.concat([old[~old["index"].isin(table["index"])], table], ignore_index=True)
    write_features(labels, table)


def take_features(labels: Labels, numbers: Collection[int]) -> pd.DataFrame:
    """Take what is known of labels out of the features, and return it: the numbers may be given to other objects."""
    old: pd.DataFrame = labels.features
    if "index" not in old.columns:
        return pd.DataFrame(old.iloc[:0])
    theirs = old["index"].isin(numbers)
    if theirs.any():
        labels.features = old[~theirs].reset_index(drop=True)
    return pd.DataFrame(old[theirs])
