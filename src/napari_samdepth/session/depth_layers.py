"""Depth in Image layers: a new layer for a DepthMap, another slice filled in, and a plane read out of one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.depthmap import DepthKind, DepthMap
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.no_reading import NoReading, leave_out, missing_text
from napari_samdepth.core.plane import Limits
from napari_samdepth.core.sparse_stack import SparseStack
from napari_samdepth.session.geometry import Shown, plane_affine, shown_plane
from napari_samdepth.session.layers import MAX_SIDE, METADATA_KEY, placement, plane_data, spatial_shape

DENSE_PIXELS = 2**26
"""Larger stacks (256 MiB of depth) take memory only for the slices that have depth."""


@dataclass(frozen=True, eq=False)
class DepthLayer:
    """An Image layer together with what its values mean.

    Attributes
    ----------
    layer
        The layer.
    kind, unit, source
        As in `DepthMap`.
    upsampling
        As there, in pixels of the layer's data (at its full resolution).
    no_reading
        Which of its values mean that nothing was measured; "none" for what a model made.
    """

    layer: Image
    kind: DepthKind
    unit: str | None
    source: str
    upsampling: float = 1.0
    no_reading: NoReading = "none"

    @classmethod
    def of(cls, layer: Image, depth: DepthMap) -> DepthLayer:
        """Return a layer that holds a depth map's values on the map's own grid."""
        return cls(layer, depth.kind, depth.unit, depth.source, depth.upsampling)

    @classmethod
    def noted(cls, layer: Image) -> DepthLayer | None:
        """Return what a layer's metadata say of its values (after a reload, too), None where they say nothing."""
        noted = layer.metadata.get(METADATA_KEY)
        if not isinstance(noted, dict) or noted.get("kind") not in get_args(DepthKind):
            return None
        upsampling = noted.get("upsampling", 1.0)
        known = isinstance(upsampling, int | float) and math.isfinite(upsampling) and upsampling >= 1
        source = str(noted.get("source", ""))
        return cls(layer, noted["kind"], noted.get("unit"), source, float(upsampling) if known else 1.0)

    @property
    def text(self) -> str:
        """Kind, unit and source in words."""
        unit = self.unit or ("relative, no unit" if self.kind == "inverse" else "no unit")
        # what tells apart the weights of one model is for files, not for reading
        return f"{self.kind} · {unit} · {re.sub(':[0-9a-f]{8,}$', '', self.source)}"

    def read(self, data: Any) -> NDArray[np.floating[Any]]:
        """Return numbers of the layer, of any shape, as depth: NaN where there is no reading."""
        return leave_out(np.asarray(data), self.kind, self.unit, self.no_reading)[0]

    def missing(self, data: Any) -> str:
        """Return in words how many numbers of the layer are no reading, "" if all are."""
        values = np.asarray(data)
        return missing_text(values, *leave_out(values, self.kind, self.unit, self.no_reading))

    def depth_map(self, depth: NDArray[np.floating[Any]], upsampling: float | None = None) -> DepthMap:
        """Return a map of (h, w) depth that `read` gave; with its `upsampling` where it lies on another grid."""
        return DepthMap(depth, self.kind, self.unit, self.source, max(upsampling or self.upsampling, 1.0))


def _about(depth: DepthMap) -> dict[str, Any]:
    """Return what a depth layer's metadata say of its values."""
    return {"kind": depth.kind, "unit": depth.unit, "source": depth.source, "upsampling": depth.upsampling}


def depth_layer_for(image: Image, shown: Shown, depth: DepthMap) -> Image:
    """Return a new Image layer that holds `depth` at the shown slice and NaN elsewhere.

    Colours are inferno (perceptually uniform, as is usual for depth) with napari's own colour bar.
    """
    shape = spatial_shape(image) if not image.multiscale else tuple(image.data[shown.level].shape[: image.ndim])
    data = _nothing_in(shape, depth.values.dtype)
    factor = np.array(spatial_shape(image)) / np.array(shape)
    local = Shown(shown.rows_axis, shown.cols_axis, shown.point, shown.shape)
    local.put(data, depth.values, tuple(factor))
    place = placement(image)
    if image.multiscale:
        place["translate"] = np.asarray(image.data_to_world((factor - 1) / 2)) if _plain(image) else image.translate
        place["scale"] = np.asarray(image.scale) * factor
    layer = Image(
        data,
        name=f"{image.name} depth",
        colormap="inferno",
        contrast_limits=depth_limits(depth.values),
        metadata={METADATA_KEY: _about(depth)},
        **place,
    )
    layer.colorbar.visible = True
    return layer


def _nothing_in(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | SparseStack:
    """Return NaN everywhere: in memory or, for a large stack, in what takes memory only where depth is put."""
    if len(shape) > 2 and math.prod(shape) > DENSE_PIXELS:
        return SparseStack(shape)
    return np.full(shape, np.nan, dtype=dtype)


def _plain(layer: Layer) -> bool:
    """Whether a layer is placed by scale and translate alone."""
    return bool(np.allclose(layer.rotate, np.eye(layer.ndim)) and np.allclose(layer.affine, np.eye(layer.ndim + 1)))


def fill_depth(layer: Image, shown: Shown, depth: DepthMap) -> None:
    """Write `depth` into the shown slice of a depth layer; contrast limits grow with it unless the user set them."""
    Shown(shown.rows_axis, shown.cols_axis, shown.point, shown.shape).put(layer.data, depth.values)
    noted = {**layer.metadata.get(METADATA_KEY, {}), **_about(depth)}
    layer.metadata = {**layer.metadata, METADATA_KEY: noted}
    before, new = tuple(layer.contrast_limits_range), depth_limits(depth.values)
    whole = min(before[0], new[0]), max(before[1], new[1])
    untouched = tuple(layer.contrast_limits) == before
    layer.contrast_limits_range = whole
    if untouched:
        layer.contrast_limits = whole
    layer.refresh()


def depth_limits(values: NDArray[np.floating[Any]]) -> Limits:
    """Return (low, high) that show all finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + 1.0)


@dataclass(frozen=True, eq=False)
class DepthSource:
    """The shown plane of a depth layer, not yet computed: taken on the main thread, rendered on any.

    Attributes
    ----------
    layer_data
        The layer's data, to see whether they were exchanged.
    shown
        Where the plane lies in them.
    data
        (h, w), a view or a lazy array.
    matrix
        (2, 3), takes (row, col, 1) of the target's plane to the depth's.
    shape
        (H, W) of the target's plane.
    known
        What the values mean.
    step
        Pixels of the layer's data along one pixel of `data`; above 1 for a coarse level of a multiscale layer.
    """

    layer_data: Any
    shown: Shown
    data: Any
    matrix: NDArray[np.float64]
    shape: tuple[int, int]
    known: DepthLayer
    step: float

    def render(self) -> DepthMap:
        """Return the depth on the target's grid; where the grids differ it is sampled linearly, NaN outside of it."""
        read = values = self.known.read(self.data)
        if values.shape != self.shape or not np.array_equal(self.matrix, np.eye(2, 3)):
            values = self._sampled(values, order=1)
            if np.isnan(values).any():  # beside a hole the nearest reading counts, or scattered holes would eat all
                values = np.where(np.isnan(values), self._sampled(read, order=0), values)
        area = abs(float(np.linalg.det(self.matrix[:, :2])))  # of a target's pixel, in pixels of `data`
        finer = 1 / math.sqrt(area) if area > 0 else 1.0
        # a pixel of a coarse level is the least that a sample can be
        return self.known.depth_map(values, max(self.known.upsampling, self.step) / self.step * finer)

    def _sampled(self, values: NDArray[Any], order: int) -> NDArray[Any]:
        matrix, offset = self.matrix[:, :2], self.matrix[:, 2]
        sampled: NDArray[Any] = ndimage.affine_transform(values, matrix, offset, self.shape, order=order, cval=np.nan)
        return sampled

    def same(self, other: DepthSource) -> bool:
        """Whether the other one is the same plane of the same data, means the same and lies in the same place."""
        return (
            self.layer_data is other.layer_data
            and (self.shown, self.shape, self.known) == (other.shown, other.shape, other.known)
            and np.array_equal(self.matrix, other.matrix)
        )

    def misplaced(self, target: str, nothing: bool) -> str:
        """Return a sentence where the depth seems not to lie where it belongs, "" otherwise.

        `target` is the name of the layer that it is read for, `nothing` whether nothing of it was read there.
        """
        size = self.data.shape[:2]
        corners = np.array([[0, 0, 1], [0, self.shape[1] - 1, 1], [self.shape[0] - 1, 0, 1], [*self.shape, 1]])
        low, high = (corners @ self.matrix.T).min(axis=0), (corners @ self.matrix.T).max(axis=0)
        name, advice = self.known.layer.name, f"give it the scale, translation and units of “{target}”, if they belong"
        if nothing and bool((high < 0).any() or (low > np.array(size) - 1).any()):
            return f"“{name}” lies elsewhere than “{target}”, so nothing is read; {advice} together."
        moved = np.abs(corners @ self.matrix.T - corners[:, :2]).max()
        if size == self.shape and moved > max(size) / 2:
            return f"“{name}” has as many pixels as “{target}”, but lies elsewhere; {advice} together."
        if nothing and self.known.layer.data is self.layer_data:
            return f"No label of “{target}” lies where “{name}” holds depth."
        return ""


def depth_source(
    known: DepthLayer,
    target: Image | Labels,
    target_shown: Shown,
    viewer: ViewerModel,
) -> DepthSource:
    """Return the shown plane of a depth layer, to be rendered on the grid of another layer's plane.

    Raises
    ------
    LayerError
        If the layer is RGB, or no plane of it is shown.
    """
    depth = known.layer
    if depth.rgb:
        raise LayerError(f"“{depth.name}” is a colour image; choose an image with one value per pixel as depth.")
    shown = shown_plane(depth, viewer.dims, MAX_SIDE)
    matrix = plane_affine(target, target_shown, depth, shown, viewer.dims)
    step = math.sqrt(math.prod(shown.step))
    return DepthSource(depth.data, shown, plane_data(depth, shown), matrix, target_shown.shape, known, step)
