"""Depth in Image layers: a new layer for a DepthMap, another slice filled in, and a DepthMap read out of one."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.depthmap import DepthKind, DepthMap
from napari_samdepth.core.plane import Limits
from napari_samdepth.session.geometry import LayerError, Shown, plane_affine, shown_plane
from napari_samdepth.session.layers import MAX_SIDE, METADATA_KEY, placement, plane_data, spatial_shape


def depth_layer_for(image: Image, shown: Shown, depth: DepthMap) -> Image:
    """Return a new Image layer that holds `depth` at the shown slice and NaN elsewhere.

    Colours are inferno (perceptually uniform, as is usual for depth) with napari's own colour bar.
    """
    shape = spatial_shape(image) if not image.multiscale else tuple(image.data[shown.level].shape[: image.ndim])
    data = np.full(shape, np.nan, dtype=np.float32)
    factor = np.array(spatial_shape(image)) / np.array(shape)
    local = Shown(shown.rows_axis, shown.cols_axis, shown.point, shown.shape)
    local.take(data, tuple(factor))[...] = depth.values
    place = placement(image)
    if image.multiscale:
        place["translate"] = np.asarray(image.data_to_world((factor - 1) / 2)) if _plain(image) else image.translate
        place["scale"] = np.asarray(image.scale) * factor
    layer = Image(
        data,
        name=f"{image.name} depth",
        colormap="inferno",
        contrast_limits=depth_limits(depth.values),
        metadata={METADATA_KEY: {"kind": depth.kind, "unit": depth.unit, "source": depth.source}},
        **place,
    )
    layer.colorbar.visible = True
    return layer


def _plain(layer: Layer) -> bool:
    """Whether a layer is placed by scale and translate alone."""
    return bool(np.allclose(layer.rotate, np.eye(layer.ndim)) and np.allclose(layer.affine, np.eye(layer.ndim + 1)))


def fill_depth(layer: Image, shown: Shown, depth: DepthMap) -> None:
    """Write `depth` into the shown slice of a depth layer made before."""
    Shown(shown.rows_axis, shown.cols_axis, shown.point, shown.shape).take(layer.data)[...] = depth.values
    noted = {**layer.metadata.get(METADATA_KEY, {}), "kind": depth.kind, "unit": depth.unit, "source": depth.source}
    layer.metadata = {**layer.metadata, METADATA_KEY: noted}
    low, high = depth_limits(layer.data)
    layer.contrast_limits_range = (low, high)
    layer.contrast_limits = (low, high)
    layer.refresh()


def depth_limits(values: NDArray[np.float32]) -> Limits:
    """Return (low, high) that show all finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + 1.0)


def depth_on_grid(
    depth: Image,
    kind: DepthKind,
    unit: str | None,
    source: str,
    target: Layer,
    target_shown: Shown,
    viewer: ViewerModel,
) -> DepthMap:
    """Return the shown plane of a depth layer as a DepthMap on the grid of another layer's plane.

    Where the grids differ the depth is sampled linearly; outside of it there is no measurement (NaN).

    Raises
    ------
    LayerError
        If the layer is RGB, or no plane of it is shown.
    """
    if depth.rgb:
        raise LayerError(f"“{depth.name}” is a colour image; choose an image with one value per pixel as depth.")
    shown = shown_plane(depth, viewer.dims, MAX_SIDE)
    values = np.asarray(plane_data(depth, shown), dtype=np.float32)
    matrix = plane_affine(target, target_shown, depth, shown, viewer.dims)
    if values.shape != target_shown.shape or not np.array_equal(matrix, np.eye(2, 3)):
        values = ndimage.affine_transform(
            values, matrix[:, :2], offset=matrix[:, 2], output_shape=target_shown.shape, order=1, cval=np.nan
        )
    return DepthMap(values, kind, unit, source)
