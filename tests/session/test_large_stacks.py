"""Depth of stacks that are too large for memory: it grows with the slices that have depth, and works like any other."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari_builtins.io import napari_write_image

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.sparse_stack import SparseStack
from napari_samdepth.session import depth_layers
from napari_samdepth.session.depth_layers import depth_layer_for, fill_depth
from napari_samdepth.session.geometry import shown_plane
from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT

SIDE = 256


def picture(block_info: Any = None) -> Any:
    """Return one plane: a bright disc whose place depends on the slice."""
    at = block_info[None]["array-location"][0][0] if block_info else 0
    rows, cols = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 128) ** 2 + (cols - 80 - at % 100) ** 2 < 40**2
    return (60 + 120 * disc).astype(np.uint8)[None]


@pytest.fixture
def stack(viewer_model: ViewerModel) -> Image:
    """A lazy stack of which depth would take 15.7 GB."""
    count = 60_000
    data = da.map_blocks(
        picture, chunks=((1,) * count, (SIDE,), (SIDE,)), dtype=np.uint8, meta=np.empty((0, 0, 0), "u1")
    )
    return viewer_model.add_image(data, name="large", contrast_limits=(0, 255))


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_depth_of_a_large_lazy_stack_takes_memory_for_its_slices(
    session: AnnotationSession, viewer_model: ViewerModel, stack: Image, traced: None
) -> None:
    for at in (30_000, 7):
        viewer_model.dims.set_current_step(0, at)
        session.add_depth(image_layer=stack)
        assert session.wait(WAIT)
        assert not session.state.problem, session.state.message
    depth = viewer_model.layers["large depth"]
    assert depth.data.shape == stack.data.shape
    assert depth.data.held == 2 * SIDE * SIDE * 4
    assert tracemalloc.get_traced_memory()[1] < 200e6

    for at, filled in ((7, True), (8, False), (30_000, True)):
        viewer_model.dims.set_current_step(0, at)
        assert np.isfinite(depth._slice.image.raw).all() == filled
        assert np.isfinite(depth._slice.image.raw).any() == filled
    low, high = depth.contrast_limits
    held = np.stack([depth.data[7], depth.data[30_000]])
    assert (low, high) == pytest.approx((held.min(), held.max()))
    depth.reset_contrast_limits(mode="slice")
    assert depth.contrast_limits == pytest.approx((depth.data[30_000].min(), depth.data[30_000].max()))

    labels = viewer_model.add_labels(np.zeros((1, SIDE, SIDE), dtype=np.int32), translate=(30_000, 0, 0))
    labels.data[0, 100:150, 60:120] = 1
    table = session.readout(labels)
    assert table.loc[1, "valid_share"] == 1
    assert table.loc[1, "mean"] == pytest.approx(float(depth.data[30_000][105:145, 65:115].mean()), rel=0.1)
    assert tracemalloc.get_traced_memory()[1] < 200e6


def test_planes_across_are_filled_and_shown_as_in_memory(
    viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = viewer_model.add_image(np.zeros((4, 30, 40)), contrast_limits=(0, 1))
    made = []
    for limit in (10**9, 1):
        monkeypatch.setattr(depth_layers, "DENSE_PIXELS", limit)
        viewer_model.dims.order = (0, 1, 2)
        shown = shown_plane(image, viewer_model.dims)
        layer = depth_layer_for(image, shown, DepthMap(np.mgrid[:30, :40][0], "height"))
        # the plane across, turned: its rows run along the last axis
        viewer_model.dims.order = (1, 2, 0)
        across = shown_plane(image, viewer_model.dims)
        fill_depth(layer, across, DepthMap(np.mgrid[:40, :4][1] + 100, "height"))
        made.append(layer)
    dense, sparse = made
    assert isinstance(dense.data, np.ndarray)
    assert isinstance(sparse.data, SparseStack)
    np.testing.assert_array_equal(np.asarray(sparse.data), dense.data)
    assert tuple(sparse.contrast_limits) == tuple(dense.contrast_limits) == (0, 103)


def test_such_a_layer_is_duplicated_and_saved_by_napari(
    session: AnnotationSession, viewer_model: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_layers, "DENSE_PIXELS", 1000)
    image = viewer_model.add_image(np.random.default_rng(0).random((5, 64, 64)), name="small")
    session.add_depth(image_layer=image)
    assert session.wait(WAIT)
    depth = viewer_model.layers["small depth"]
    assert isinstance(depth.data, SparseStack)
    # as napari's own Duplicate does
    twin = Layer.create(*copy.deepcopy(depth.as_layer_data_tuple()))
    viewer_model.add_layer(twin)
    np.testing.assert_array_equal(np.asarray(twin.data), np.asarray(depth.data))
    # what File ▸ Save calls; finding it by itself needs the plugins of a window
    napari_write_image(str(tmp_path / "depth.tif"), *depth.as_layer_data_tuple()[:2])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "depth.tif"), np.asarray(depth.data))
    masks = viewer_model.add_labels(np.ones((5, 64, 64), dtype=np.int32))
    assert list(session.readout(masks)["slice"]) == [viewer_model.dims.current_step[0]]
