"""Where the plane that a viewer shows lies in a layer's data, and how planes of two layers map onto each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pint
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.plane import fitting_level

LEAST_WINDOW = 512
"""Shortest side of a window that is cut out of a large picture, in pixels: what is smaller lacks surroundings."""


@dataclass(frozen=True)
class Shown:
    """The 2-D plane of a layer that a viewer shows.

    Attributes
    ----------
    rows_axis, cols_axis
        Data axes that run down and across the plane.
    point
        For each data axis, the shown position in data pixels (unused for the two plane axes).
    shape
        (H, W) of the plane in plane pixels.
    step
        Data pixels (of the full resolution) per plane pixel, down and across; above 1 for coarse multiscale levels.
    level
        Multiscale level that the plane is read from, 0 otherwise.
    origin
        For a window of the plane: the (row, col) that it begins with, in pixels of its level; `shape` is its size then,
        and its pixels are counted from there. None for the whole plane.
    """

    rows_axis: int
    cols_axis: int
    point: tuple[int, ...]
    shape: tuple[int, int]
    step: tuple[float, float] = (1.0, 1.0)
    level: int = 0
    origin: tuple[int, int] | None = None

    @property
    def slice_key(self) -> tuple[int, ...]:
        """What identifies the shown slice: the two plane axes and the positions along the others."""
        plane = (self.rows_axis, self.cols_axis)
        return (*plane, *(at for axis, at in enumerate(self.point) if axis not in plane))

    def index(self, factors: tuple[float, ...] | None = None) -> tuple[int | slice, ...]:
        """Return the index that takes the plane out of the data; `factors` divide positions for a coarse level."""
        spans = self._spans()
        scale = factors or (1.0,) * len(self.point)
        return tuple(spans.get(axis, int(at / scale[axis])) for axis, at in enumerate(self.point))

    def _spans(self) -> dict[int, slice]:
        """Return what the plane takes of its two axes."""
        axes = (self.rows_axis, self.cols_axis)
        if self.origin is None:
            return dict.fromkeys(axes, slice(None))
        ends = zip(axes, self.origin, self.shape, strict=True)
        return {axis: slice(start, start + size) for axis, start, size in ends}

    def window_of(self, data: Any, spans: tuple[slice, ...]) -> Any:
        """Return what of the data of the plane's level lies in the plane, and along its other axes in `spans`."""
        own = self._spans()
        return data[tuple(own.get(axis, span) for axis, span in enumerate(spans))]

    def take(self, data: Any, factors: tuple[float, ...] | None = None) -> Any:
        """Return the plane of `data` as (H, W) or (H, W, channels): a view where `data` allows it."""
        plane = data[self.index(factors)]
        return plane.swapaxes(0, 1) if self.rows_axis > self.cols_axis else plane

    def put(self, data: Any, plane: NDArray[Any], factors: tuple[float, ...] | None = None) -> None:
        """Write a plane (H, W) where `take` finds it; unlike its view this works for data that are no numpy array."""
        data[self.index(factors)] = plane.swapaxes(0, 1) if self.rows_axis > self.cols_axis else plane

    def to_data(self, points_rc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return plane points (n, 2) as data points (n, ndim) of the full resolution."""
        out = np.tile(np.asarray(self.point, dtype=np.float64), (len(points_rc), 1))
        start = self.origin or (0, 0)
        for column, axis in enumerate((self.rows_axis, self.cols_axis)):
            out[:, axis] = (points_rc[:, column] + start[column] + 0.5) * self.step[column] - 0.5
        return out

    def from_data(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return data points (n, ndim) of the full resolution as plane points (n, 2), whatever slice they lie in."""
        start = self.origin or (0, 0)
        pairs = [
            (points[:, axis] + 0.5) / self.step[column] - 0.5 - start[column]
            for column, axis in enumerate((self.rows_axis, self.cols_axis))
        ]
        return np.stack(pairs, axis=1)

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for data points (n, ndim) whether they lie in this slice (n,) bool."""
        plane = (self.rows_axis, self.cols_axis)
        others = [axis for axis in range(len(self.point)) if axis not in plane]
        at = np.asarray(self.point, dtype=np.float64)
        return np.asarray((np.abs(points[:, others] - at[others]) <= 0.5).all(axis=1))

    def full_index(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
        """Return plane pixels (rows, cols) of the full resolution as an index into n-D data."""
        index = [np.full(len(rows), at, dtype=np.intp) for at in self.point]
        start = self.origin or (0, 0)
        index[self.rows_axis], index[self.cols_axis] = rows + start[0], cols + start[1]
        return tuple(index)

    def at_full_resolution(self, full: tuple[int, ...]) -> Shown:
        """Return the same part of the plane at the full resolution of data of shape `full`."""
        size = np.array([full[self.rows_axis], full[self.cols_axis]])
        start, end = np.zeros(2), size
        if self.origin is not None:
            start, end = np.array(self.origin) * self.step, (np.array(self.origin) + self.shape) * self.step
        low, high = np.round(start).astype(int), np.minimum(np.round(end).astype(int), size)
        origin = None if self.origin is None else (int(low[0]), int(low[1]))
        shape = (int(high[0] - low[0]), int(high[1] - low[1]))
        return replace(self, shape=shape, step=(1.0, 1.0), level=0, origin=origin)


def unit_factors(layer: Layer, dims: Dims) -> NDArray[np.float64]:
    """Return how many of the view's units one unit of the layer is, for each axis of the layer.

    napari 0.9 draws layers of nm, µm and mm in one physical space, in the smallest of their units (`dims.units`). Where
    the units of two layers cannot be converted, as pixels beside µm, it draws the bare numbers of all layers; so
    everything here is 1.
    """
    return 1 / _view_factors(layer, dims)


def _view_factors(layer: Layer, dims: Dims) -> NDArray[np.float64]:
    view = dims.units
    if view is None or len(view) < layer.ndim:
        return np.ones(layer.ndim)
    return np.array([_base(shared) / _base(own) for own, shared in zip(layer.units, view[-layer.ndim :], strict=True)])


@lru_cache(maxsize=256)
def _base(unit: pint.Unit) -> float:
    """Return how many of pint's base units (m, s) one unit is."""
    return float(pint.get_application_registry().get_base_units(unit)[0])  # type: ignore[no-untyped-call]


def to_world(layer: Layer, points: NDArray[np.float64], dims: Dims) -> NDArray[np.float64]:
    """Return data points (n, layer.ndim) of a layer where the view has them: in its units, as `dims.point` is."""
    return np.array([layer.data_to_world(point) for point in points], dtype=np.float64) * unit_factors(layer, dims)


def from_world(layer: Layer, world: NDArray[np.float64], dims: Dims) -> NDArray[np.float64]:
    """Return points of the view (n, at least layer.ndim) in its units as data points (n, layer.ndim) of a layer."""
    own = world[:, world.shape[1] - layer.ndim :] / unit_factors(layer, dims)
    return np.array([layer.world_to_data(point) for point in own], dtype=np.float64)


def shown_plane(layer: Image | Labels, dims: Dims, max_side: int | None = None) -> Shown:
    """Return the plane of `layer` that a viewer with these `dims` shows.

    Parameters
    ----------
    layer
        An Image or Labels layer.
    dims
        The viewer's dims.
    max_side
        For multiscale layers: the longest side in pixels that the level to read may have; the full resolution if
        None.

    Raises
    ------
    LayerError
        If the view is in 3-D, or shows no plane of the layer.
    """
    if dims.ndisplay != 2:
        raise LayerError("The view is in 3-D; switch it to 2-D (Ctrl+Y) to click on an image.")
    extra = dims.ndim - layer.ndim
    rows_axis, cols_axis = (axis - extra for axis in dims.displayed)
    if rows_axis < 0 or cols_axis < 0:
        raise LayerError(f"The view shows no plane of “{layer.name}”; roll the axes back until it is seen.")
    shapes = [level.shape for level in layer.data] if layer.multiscale else [layer.data.shape]
    full = shapes[0]
    point, before, after = _slice_in_data(layer, dims)
    thick = str(layer.projection_mode) != "none"
    at = np.round(point).astype(int)
    for axis in range(layer.ndim):
        low, high = (np.round(point - before), np.round(point + after)) if thick else (at, at)
        if axis not in (rows_axis, cols_axis) and (high[axis] < 0 or low[axis] >= full[axis]):
            raise LayerError(f"“{layer.name}” has nothing at the shown slice; move the slider to a slice it has.")
    level = 0
    if layer.multiscale and max_side is not None:
        level = fitting_level([(shape[rows_axis], shape[cols_axis]) for shape in shapes], max_side)
    shape = shapes[level]
    return Shown(
        rows_axis=rows_axis,
        cols_axis=cols_axis,
        point=tuple(int(value) for value in np.clip(at, 0, np.array(full[: layer.ndim]) - 1)),
        shape=(int(shape[rows_axis]), int(shape[cols_axis])),
        step=(full[rows_axis] / shape[rows_axis], full[cols_axis] / shape[cols_axis]),
        level=level,
    )


def _slice_in_data(layer: Layer, dims: Dims) -> NDArray[np.float64]:
    """Return the shown point and how far the slice reaches to either side of it, in data pixels (3, layer.ndim).

    Computed in napari's order to the last bit, for half-way between two slices that decides which one is drawn. As
    there, what the plane's own axes add where a layer is sheared or turned out of the plane is left out (0).
    """
    hidden = [axis for axis in range(layer.ndim) if axis + dims.ndim - layer.ndim not in dims.displayed]
    inverse = layer._data_to_world.inverse
    linear = (inverse.linear_matrix @ np.diag(_view_factors(layer, dims)))[np.ix_(hidden, hidden)]
    offset = inverse.translate[hidden]
    world = np.array([dims.point, dims.margin_left, dims.margin_right])[:, -layer.ndim :][:, hidden]
    out = np.zeros((3, layer.ndim))
    out[:, hidden] = world @ linear.T + offset
    out[1:, hidden] -= offset
    return out


def in_view(
    layer: Image,
    viewer: ViewerModel,
    max_side: int,
    points: NDArray[np.float64] | None = None,
    least: int = LEAST_WINDOW,
) -> Shown:
    """Return what of the shown plane is looked at, in the finest level in which no side is longer than `max_side`.

    A picture that is no larger than that is taken whole. Of others the window is what the canvas shows and a margin
    around it, as long as the whole plane is not needed; where `points` lie outside, it reaches as far as them.

    Parameters
    ----------
    layer
        The image.
    viewer
        Its camera and the size of its canvas say what is looked at.
    max_side
        Longest side of the window, in pixels of its level. Where the image has one level only, and more of it than
        that is looked at, the whole plane is taken.
    points
        (n, layer.ndim) data points that the window has to hold, with room around them.
    least
        Shortest side of the window in pixels of the full resolution, where the image is as large.

    Raises
    ------
    LayerError
        If no plane of the layer is shown.
    """
    full = shown_plane(layer, viewer.dims)
    size = np.array(full.shape, dtype=np.float64)
    if size.max() <= max_side:
        return full
    low, high = _looked_at(layer, full, viewer)
    if (low >= high).any():
        low, high = np.zeros(2), size
    room = (high - low) / 8
    low, high = low - room, high + room
    if points is not None and len(points):
        inside = full.from_data(points)
        low = np.minimum(low, inside.min(axis=0) - room)
        high = np.maximum(high, inside.max(axis=0) + room)
    short = np.maximum(least - (high - low), 0) / 2
    low, high = low - short, high + short
    # what lacks at the edge of the picture is added on the other side
    low, high = low - np.maximum(high - size, 0), high + np.maximum(-low, 0)
    low, high = np.clip(low, 0, size), np.clip(high, 0, size)
    shapes = [level.shape for level in layer.data] if layer.multiscale else [layer.data.shape]
    planes = np.array([[shape[full.rows_axis], shape[full.cols_axis]] for shape in shapes])
    sides = np.floor((high - low) * planes / size).astype(int).tolist()
    level = fitting_level(sides, max_side)
    step = size / planes[level]
    start = np.floor(low / step).astype(int)
    shape = np.minimum(np.ceil(high / step).astype(int), planes[level]) - start
    if (shape >= planes[level]).all() or (len(shapes) == 1 and shape.max() > max_side):
        return shown_plane(layer, viewer.dims, max_side)
    return replace(
        full,
        shape=(int(shape[0]), int(shape[1])),
        step=(float(step[0]), float(step[1])),
        level=level,
        origin=(int(start[0]), int(start[1])),
    )


def view_corners(layer: Image, viewer: ViewerModel) -> NDArray[np.float64]:
    """Return the corners of what the canvas shows of the shown plane, as data points (4, layer.ndim)."""
    full = shown_plane(layer, viewer.dims)
    low, high = _looked_at(layer, full, viewer)
    return full.to_data(np.array([[row, col] for row in (low[0], high[0]) for col in (low[1], high[1])]) - 0.5)


def _looked_at(layer: Image, full: Shown, viewer: ViewerModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first and last (row, col) of the plane that the canvas shows, clipped to the plane."""
    dims, camera = viewer.dims, getattr(viewer, "scene", viewer).camera
    half = np.array(viewer.canvas.size, dtype=np.float64) / max(float(camera.zoom), 1e-12) / 2
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    world = np.tile(np.asarray(dims.point, dtype=np.float64), (4, 1))
    world[:, list(dims.displayed)] = np.array(camera.center[-2:]) + signs * half
    corners = full.from_data(from_world(layer, world, dims)) + 0.5
    return np.clip(corners.min(axis=0), 0, full.shape), np.clip(corners.max(axis=0), 0, full.shape)


def serves(shown: Shown, wanted: Shown, layer: Image, points: NDArray[np.float64]) -> bool:
    """Whether what of a layer was encoded as `shown` still serves where `in_view` asks for `wanted` now.

    It does at about the same zoom (half to twice), while the data points (n, ndim) lie in it with room around them.
    """
    if shown.origin is None and wanted.origin is None:
        return shown.level == wanted.level
    if shown == wanted:
        return True
    sides = [max(np.array(one.shape) * one.step) for one in (shown, wanted)]
    if not 0.5 <= sides[0] / sides[1] <= 2 or shown.level != wanted.level:
        return False
    if shown.origin is None or not len(points):
        return True
    data = layer.data[shown.level] if layer.multiscale else layer.data
    size, start = np.array(shown.shape), np.array(shown.origin)
    at, room = shown.from_data(points) + 0.5, size / 10
    # where the picture ends there is no more room
    low = np.where(start == 0, 0, room)
    high = np.where(start + size >= [data.shape[shown.rows_axis], data.shape[shown.cols_axis]], size, size - room)
    return bool(((at >= low) & (at <= high)).all())


def thick_slice(layer: Image, shown: Shown, dims: Dims) -> tuple[slice, ...] | None:
    """Return what of a level's data napari projects onto the shown plane; None where that is a single slice.

    A slice per axis of the layer, whole along the plane's own axes, in pixels of the level that `shown` names. The
    slices are those of napari 0.9: from the rounded near end to the far end, which counts where it is a whole number.
    """
    if str(layer.projection_mode) == "none":
        return None
    reach = _slice_in_data(layer, dims)
    sizes = np.array(layer.data[0].shape if layer.multiscale else layer.data.shape)[: layer.ndim]
    if layer.multiscale:
        level = np.array(layer.data[shown.level].shape)[: layer.ndim]
        reach = reach / (sizes / level)
        reach[0] = np.clip(reach[0], 0, level - 1)
        sizes = level
    spans = []
    for axis, (point, before, after) in enumerate(reach.T):
        if axis in (shown.rows_axis, shown.cols_axis):
            spans.append(slice(None))
            continue
        low, high = max(int(np.round(point - before)), 0), max(int(np.round(point + after)), 0)
        high += bool(np.isclose(high, point + after))
        spans.append(slice(low, min(max(high, low + 1), int(sizes[axis]))))
    single = all(span == slice(None) or span.stop - span.start == 1 for span in spans)
    return None if single else tuple(spans)


def tilted(layer: Layer, dims: Dims) -> bool:
    """Whether a layer is sheared or turned out of the shown plane, so that the plane cuts through several slices."""
    plane = [axis - dims.ndim for axis in dims.displayed]
    world = np.zeros((3, dims.ndim))
    world[[1, 2], plane] = 1
    data = from_world(layer, world, dims)
    return not np.allclose(np.delete(data - data[0], plane, axis=1), 0, atol=1e-9)


def points_to_plane(
    points: NDArray[np.float64], layer: Layer, target: Layer, shown: Shown, dims: Dims
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return data points of `layer` in plane pixels of `target`, and which of them lie in the shown slice.

    Parameters
    ----------
    points
        (n, layer.ndim) in data pixels.
    layer
        The layer that they belong to.
    target
        The layer whose plane `shown` is.
    shown
        The plane.
    dims
        The viewer's dims; they place layers of fewer dimensions than the viewer.

    Returns
    -------
    (n, 2) float64 (row, col) in plane pixels, and (n,) bool.
    """
    data = points_between(points, layer, target, dims)
    return shown.from_data(data), shown.holds(data)


def points_between(points: NDArray[np.float64], source: Layer, target: Layer, dims: Dims) -> NDArray[np.float64]:
    """Return data points (n, source.ndim) of one layer as data points (n, target.ndim) of another."""
    if len(points) == 0:
        return np.zeros((0, target.ndim))
    if source is target or _same_place(source, target):
        return points
    world = np.tile(np.asarray(dims.point, dtype=np.float64), (len(points), 1))
    world[:, dims.ndim - source.ndim :] = to_world(source, points, dims)
    return from_world(target, world, dims)


def _same_place(source: Layer, target: Layer) -> bool:
    """Whether both layers' data pixels lie in the same places, number for number."""
    names = ("scale", "translate", "rotate", "shear")
    return (
        source.ndim == target.ndim
        and all(np.array_equal(getattr(source, name), getattr(target, name)) for name in names)
        and np.array_equal(source.affine.affine_matrix, target.affine.affine_matrix)
        and tuple(source.units) == tuple(target.units)
    )


def plane_affine(
    source: Layer, source_shown: Shown, target: Layer, target_shown: Shown, dims: Dims
) -> NDArray[np.float64]:
    """Return the (2, 3) matrix that takes (row, col, 1) in the source's plane to (row, col) in the target's."""
    corners = source_shown.to_data(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    mapped, _ = points_to_plane(corners, source, target, target_shown, dims)
    matrix = np.stack([mapped[1] - mapped[0], mapped[2] - mapped[0], mapped[0]], axis=1)
    return np.asarray(np.round(matrix, 9))


def matching_plane(source: Image | Labels, source_shown: Shown, target: Labels, dims: Dims) -> Shown:
    """Return the plane of `target`, at its full resolution, that lies where a plane of `source` does.

    It need not be the plane that is shown, nor the view be in 2-D. Raises LayerError where `target` has none there.
    """
    extra = target.ndim - source.ndim
    rows_axis, cols_axis = source_shown.rows_axis + extra, source_shown.cols_axis + extra
    full = target.data[0].shape if target.multiscale else target.data.shape
    if rows_axis < 0 or cols_axis < 0:
        raise LayerError(f"“{target.name}” has no plane along those axes of “{source.name}”; choose another layer.")
    try:
        if shown_plane(source, dims).slice_key == source_shown.slice_key:
            return shown_plane(target, dims)
    except LayerError:
        pass
    at = np.round(points_between(source_shown.to_data(np.zeros((1, 2))), source, target, dims)[0]).astype(int)
    for axis in range(target.ndim):
        if axis not in (rows_axis, cols_axis) and not 0 <= at[axis] < full[axis]:
            raise LayerError(f"“{target.name}” has nothing at that slice of “{source.name}”; choose another layer.")
    return Shown(rows_axis, cols_axis, tuple(int(value) for value in at), (int(full[rows_axis]), int(full[cols_axis])))


def centre_on(labels: Labels, label: int, viewer: ViewerModel) -> None:
    """Move the camera to the centre of a label of the shown plane; the zoom stays."""
    shown = shown_plane(labels, viewer.dims)
    rows, cols = np.nonzero(np.asarray(shown.take(labels.data)) == label)
    if rows.size:
        world = to_world(labels, shown.to_data(np.array([[rows.mean(), cols.mean()]])), viewer.dims)[0]
        down, across = (axis - viewer.dims.ndim for axis in viewer.dims.displayed)
        # napari 0.9 moved the camera into the scene
        camera = getattr(viewer, "scene", viewer).camera
        camera.center = (0.0, float(world[down]), float(world[across]))


def go_to_plane(labels: Labels, plane: int, viewer: ViewerModel) -> None:
    """Move the viewer's slider to a plane of a 3-D layer."""
    shown = shown_plane(labels, viewer.dims)
    axis = stack_axis(shown)
    if axis is not None:
        show_plane(labels, replace(shown, point=(*shown.point[:axis], plane, *shown.point[axis + 1 :])), viewer)


def show_plane(layer: Image | Labels, shown: Shown, viewer: ViewerModel) -> None:
    """Move the viewer's sliders, and turn its axes, so that it shows this plane of a layer."""
    dims = viewer.dims
    try:
        if shown_plane(layer, dims).slice_key == shown.slice_key:
            return
    except LayerError:
        pass
    extra = dims.ndim - layer.ndim
    plane = (shown.rows_axis + extra, shown.cols_axis + extra)
    if dims.ndisplay == len(plane) and tuple(dims.displayed) != plane:
        dims.order = (*(axis for axis in dims.order if axis not in plane), *plane)
    world = to_world(layer, np.array([shown.point], dtype=np.float64), dims)[0]
    others = [axis for axis in range(extra, dims.ndim) if axis not in plane]
    dims.set_point(others, [float(world[axis - extra]) for axis in others])


def stack_axis(shown: Shown) -> int | None:
    """Return the axis along which a 3-D layer is a stack of planes, None for other layers."""
    others = [axis for axis in range(len(shown.point)) if axis not in (shown.rows_axis, shown.cols_axis)]
    return others[0] if len(others) == 1 else None


def stack_position(layer: Image | Labels, dims: Dims) -> int | None:
    """Return the position of the shown plane in a 3-D layer, None for other layers or where none is shown."""
    try:
        shown = shown_plane(layer, dims)
    except LayerError:
        return None
    axis = stack_axis(shown)
    return None if axis is None else shown.point[axis]
