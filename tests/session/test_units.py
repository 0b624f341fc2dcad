"""Layers of nm, µm, Å, seconds and pixels beside each other: all lie where napari draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from skimage import data

from napari_samdepth.session.depth_layers import DepthLayer, depth_source
from napari_samdepth.session.geometry import centre_on, from_world, plane_affine, show_plane, shown_plane, to_world
from napari_samdepth.session.layers import read_plane
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click, preview

UM, NM = ("um", "um"), ("nm", "nm")
STACKS = {
    "µm stack beside nm layer": (("um", "um", "um"), (("nm", "nm"),)),
    "nm stack beside Å layer": (("nm", "nm", "nm"), (("angstrom", "angstrom", "angstrom"),)),
    "axes of different units": (("um", "nm", "nm"), (("mm", "um", "um"),)),
    "time axis": (("s", "um", "um"), (("ms", "nm", "nm"),)),
    "dimensionless axis": (("dimensionless", "um", "um"), (("dimensionless", "nm", "nm"),)),
    "pixels beside µm": (("um", "um", "um"), (("pixel", "pixel"), ("nm", "nm"))),
    "pixels alone": (("pixel", "pixel", "pixel"), (("pixel", "pixel"),)),
}


def planes_of(viewer: ViewerModel, units: tuple[str, ...], others: tuple[tuple[str, ...], ...]) -> Image:
    """Add a stack whose pixels hold the number of their slice, and layers of other units beside it."""
    stack = viewer.add_image(
        np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (12, 20, 30)).copy(),
        scale=(2, 0.5, 0.25),
        translate=(3, 1, -2),
        units=units,
        name="stack",
    )
    for other in others:
        viewer.add_image(np.zeros((20,) * len(other)), units=other, name="other " + other[-1])
    return stack


@pytest.mark.parametrize("case", STACKS)
def test_the_plane_read_is_the_one_drawn(viewer_model: ViewerModel, case: str) -> None:
    stack = planes_of(viewer_model, *STACKS[case])
    seen = set()
    # half-way between two slices as well, where the last bit decides which one is drawn
    for at in np.arange(-1, 12.5, 0.5):
        viewer_model.dims.set_point(0, to_world(stack, np.array([[at, 0, 0]]), viewer_model.dims)[0, 0])
        drawn = stack._slice.image.raw
        try:
            shown = shown_plane(stack, viewer_model.dims)
        except ValueError:
            assert drawn.shape != (20, 30), "napari shows nothing of the stack"
            continue
        assert np.array_equal(shown.take(stack.data), drawn)
        seen.add(shown.point[0])
        # and back: the sliders go to where napari draws the plane
        viewer_model.dims.set_point(0, 0)
        show_plane(stack, shown, viewer_model)
        assert stack._slice.image.raw[0, 0] == shown.point[0]
    assert seen == set(range(12))


@pytest.mark.filterwarnings("ignore:Inconsistent units")
def test_points_lie_where_the_canvas_has_them(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    canvas = viewer.window._qt_viewer.canvas
    for case, (units, others) in STACKS.items():
        viewer.layers.clear()
        planes_of(viewer, units, others)
        canvas._update_world_units()
        for layer in viewer.layers:
            corners = np.array([np.zeros(layer.ndim), np.full(layer.ndim, 7.0)])
            world = to_world(layer, corners, viewer.dims)
            transform = canvas.layer_to_visual[layer].node.transform
            # textures begin at the edge of the first pixel, points are centres
            half = 0.5 * np.array([transform.matrix[1, 1], transform.matrix[0, 0]])
            drawn = transform.map(corners[:, ::-1][:, :2])[:, :2][:, ::-1] + half
            assert np.allclose(drawn, world[:, -2:], rtol=1e-5), case
            assert np.allclose(from_world(layer, world, viewer.dims), corners), case


def test_heights_in_nm_are_read_under_labels_in_um(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    cells = np.zeros((60, 80), dtype=np.uint16)
    cells[10:20, 10:30], cells[30:50, 50:70] = 1, 2
    height = np.select([cells == 1, cells == 2], [50.0, 20.0]).astype(np.float32)
    labels = viewer_model.add_labels(cells, scale=(0.1, 0.1), units=UM)
    afm = viewer_model.add_image(np.repeat(np.repeat(height, 2, 0), 2, 1), scale=(50, 50), units=NM, name="AFM")
    afm.translate = (-25, -25)
    session.use_depth(afm, "height", "nm")
    table = session.readout(labels)
    assert table["median"].to_dict() == {1: 50.0, 2: 20.0}
    assert (table["valid_share"] == 1).all()
    # half of the map is elsewhere: what is not there is not read from another place
    afm.translate = (-25, 3000 - 25)
    assert session.readout(labels)["valid_share"].to_dict() == {1: 0.0, 2: 1.0}


def test_the_live_readout_follows_units_that_change(
    started: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    image.units = UM
    ramp = np.tile(np.arange(384, dtype=np.float32), (303, 1))
    depth = viewer_model.add_image(ramp, name="ramp", scale=(1000, 1000), units=NM)
    started.use_depth(depth, "height", "nm")
    click(started, viewer_model, *COIN)
    middle = started.state.live["median"]
    assert middle == pytest.approx(COIN[1], abs=5)
    depth.units = ("um", "um")  # now a thousand times as large
    started.choose((started.state.chosen + 1) % 3)
    assert started.state.live["median"] < 1


def test_a_stack_of_another_unit_on_the_same_grid_is_read_slice_by_slice(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    cells = np.zeros((3, 20, 20), dtype=np.uint16)
    cells[0, 2:9, 2:9], cells[2, 5:15, 5:15] = 1, 2
    labels = viewer_model.add_labels(cells, scale=(1, 0.1, 0.1), units=("um",) * 3)
    depth = viewer_model.add_image(cells * 10.0, scale=(1000, 100, 100), units=("nm",) * 3, name="depth")
    session.use_depth(depth, "height", "nm")
    assert session.readout(labels)["slice"].to_dict() == {1: 0, 2: 2}
    depth.scale = (1, 0.1, 0.1)  # equal numbers, another place: only the shown slice is looked at
    assert "slice" not in session.readout(labels).columns


@pytest.fixture
def plain(session: AnnotationSession, viewer_model: ViewerModel, image: Image) -> NDArray[np.bool_]:
    """The mask of the first coin in a plain image."""
    session.start(image)
    click(session, viewer_model, *COIN)
    mask = preview(viewer_model)
    viewer_model.layers.clear()
    return mask


def click_at(session: AnnotationSession, viewer: ViewerModel, world: NDArray[np.float64]) -> None:
    """Click as napari does: the place in the view is taken for one in the units of the layer clicked in."""
    points = viewer.layers["SAM prompts"]
    points.add(points.world_to_data(world))
    assert session.wait(WAIT)


def test_masks_go_into_labels_of_another_unit(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    image = viewer_model.add_image(data.coins(), scale=(0.5, 0.5), units=UM)
    labels = viewer_model.add_labels(
        np.zeros((200, 220), dtype=np.int32), scale=(250, 250), translate=(10000, 5000), units=NM
    )
    session.start(image, labels=labels)
    world = to_world(image, np.array([COIN]), viewer_model.dims)[0]
    assert np.allclose(world, np.multiply(COIN, 500)), "the view is in nm"
    click_at(session, viewer_model, world)
    assert np.array_equal(preview(viewer_model), plain)
    number = session.accept()
    rows, cols = np.nonzero(labels.data == number)
    back = np.round(np.stack([rows * 0.5 + 20, cols * 0.5 + 10], axis=1)).astype(int)
    assert plain[back[:, 0], back[:, 1]].mean() > 0.97
    assert len(rows) == pytest.approx(4 * plain.sum(), rel=0.05)
    centre_on(labels, number, viewer_model)
    expected = to_world(image, np.array([[at.mean() for at in np.nonzero(plain)]]), viewer_model.dims)[0]
    assert np.allclose(viewer_model.scene.camera.center[1:], expected, atol=300)
    session.edit(number)
    assert session.wait(WAIT)
    refined = preview(viewer_model)
    assert (refined & plain).sum() > 0.9 * (refined | plain).sum()


def test_clicks_stay_right_when_a_layer_of_a_smaller_unit_comes(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    image = viewer_model.add_image(data.coins(), scale=(0.5, 0.5), units=UM, rotate=20, translate=(4, 5))
    session.start(image)
    assert session.wait(WAIT)
    viewer_model.add_image(np.zeros((20, 20)), units=NM, name="fine")
    click_at(session, viewer_model, to_world(image, np.array([COIN]), viewer_model.dims)[0])
    assert np.array_equal(preview(viewer_model), plain)
    session.clear()
    image.translate = (7, 8)
    click_at(session, viewer_model, to_world(image, np.array([COIN]), viewer_model.dims)[0])
    assert np.array_equal(preview(viewer_model), plain)
    boxes = viewer_model.layers["SAM shapes"]
    session.clear()
    corners = to_world(image, np.array([[30.0, 25], [30, 75], [80, 75], [80, 25]]), viewer_model.dims)
    boxes.add_rectangles(np.array([boxes.world_to_data(corner) for corner in corners]))
    assert session.wait(WAIT)
    boxed = preview(viewer_model)
    assert (boxed & plain).sum() > 0.8 * (boxed | plain).sum()
    session.accept()
    assert session.masks.layer.units == image.units


def test_picks_in_angstrom_are_clicks_on_a_stack_in_nm(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    image = viewer_model.add_image(np.stack([data.coins()] * 6), units=("nm",) * 3, name="stack")
    own = viewer_model.add_points(
        np.array([[40.0, COIN[0] * 10, COIN[1] * 10]]), ndim=3, units=("angstrom",) * 3, name="picks"
    )
    viewer_model.dims.set_point(0, 40.0)
    assert image._slice.image.raw.shape == data.coins().shape
    session.start(image, points=own)
    assert session.wait(WAIT)
    assert session.state.scores, "the pick lies in the slice shown"
    assert preview(viewer_model)[4].any()
    session.accept()
    assert session.masks.layer.data.any(axis=(1, 2)).tolist() == [False] * 4 + [True, False]


def test_clicks_in_a_layer_that_napari_misplaces_are_explained(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    image = viewer_model.add_image(data.coins(), units=NM)
    own = viewer_model.add_points(ndim=2, units=UM, name="picks")
    session.start(image, points=own)
    assert session.wait(WAIT)
    own.add(own.world_to_data(np.array(COIN)))
    assert session.wait(WAIT)
    assert "other units than the view" in session.state.message


def test_masks_of_a_search_go_into_labels_of_another_unit(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    image = viewer_model.add_image(data.coins()[:120, :160], scale=(0.5, 0.5), units=UM)
    labels = viewer_model.add_labels(np.zeros((120, 160), dtype=np.int32), scale=(500, 500), units=NM)
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    session.everything.filter(0.5, 0.5)
    session.everything.search(6, 0)
    assert session.wait(WAIT)
    assert session.everything.accept() > 1
    assert labels.data.any()


def test_one_place_in_other_units_is_one_grid(viewer_model: ViewerModel) -> None:
    place = {"scale": (0.3, 0.2), "translate": (11, -5), "rotate": 17}
    fine = {"scale": (300, 200), "translate": (11000, -5000), "rotate": 17}
    one = viewer_model.add_image(np.zeros((30, 40)), units=UM, **place)
    other = viewer_model.add_image(np.zeros((30, 40)), units=NM, **fine)
    dims = viewer_model.dims
    shown = [shown_plane(layer, dims) for layer in (one, other)]
    assert np.array_equal(plane_affine(one, shown[0], other, shown[1], dims), np.eye(2, 3))
    source = depth_source(DepthLayer(other, "height", "nm", ""), one, shown[0], viewer_model)
    assert np.array_equal(source.matrix, np.eye(2, 3))
    assert read_plane(one, viewer_model).shown.shape == (30, 40)
