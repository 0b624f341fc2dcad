"""Of a picture too large to be encoded whole, what is looked at is encoded, at the resolution in view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.session.geometry import in_view, plane_affine, serves, shown_plane, to_world
from napari_samdepth.session.layers import read_view
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click, preview

TILES = (14, 11)
"""Copies of the coins down and across: 4242 × 4224 pixels."""
FIRST = np.array([7 * 303.0, 5 * 384.0])
"""(row, col) where a copy in the middle begins."""


@pytest.fixture
def plain(session: AnnotationSession, viewer_model: ViewerModel, image: Image) -> NDArray[np.bool_]:
    """The mask of the first coin in a plain image."""
    session.start(image)
    click(session, viewer_model, *COIN)
    mask = preview(viewer_model)
    viewer_model.layers.clear()
    return mask


def look_at(viewer: ViewerModel, image: Image, point: NDArray[np.float64], zoom: float) -> None:
    """Centre the view on a data point; `zoom` is in canvas pixels per pixel of the image."""
    viewer.scene.camera.center = (0.0, *to_world(image, point[None], viewer.dims)[0])
    viewer.scene.camera.zoom = zoom / float(np.mean(image.scale))


def overlap(mask: NDArray[np.bool_], plain: NDArray[np.bool_], first: NDArray[np.float64] = FIRST) -> float:
    row, col = first.astype(int)
    there = np.zeros(mask.shape, dtype=bool)
    there[row : row + plain.shape[0], col : col + plain.shape[1]] = plain
    return float((mask & there).sum() / (mask | there).sum())


def big(coins: NDArray[np.uint8], levels: int) -> Any:
    fine = np.tile(coins, TILES)
    return [fine[:: 2**level, :: 2**level] for level in range(levels)] if levels > 1 else fine


@pytest.mark.parametrize("levels", [1, 3])
def test_masks_at_the_resolution_in_view(
    plain: NDArray[np.bool_],
    session: AnnotationSession,
    viewer_model: ViewerModel,
    coins: NDArray[np.uint8],
    levels: int,
) -> None:
    image = viewer_model.add_image(
        big(coins, levels), multiscale=levels > 1, contrast_limits=(0, 255), scale=(0.5, 0.5), units=("um", "um")
    )
    viewer_model.add_image(np.zeros((8, 8)), units=("nm", "nm"), name="another unit")
    image.scale = (500, 500)
    image.units = ("nm", "nm")
    look_at(viewer_model, image, FIRST + 150, 1.5)
    session.start(image)
    assert session.wait(WAIT)
    shown = session._annotator.encoded.shown
    assert shown.level == 0
    assert max(shown.shape) < 1000
    click(session, viewer_model, *(FIRST + COIN))
    assert overlap(preview(viewer_model), plain) > 0.85
    session.accept()
    labels = session.masks.layer
    assert overlap(labels.data == 1, plain) > 0.85
    # a click elsewhere: what is around it is encoded, and undo goes back to where the first mask was made
    other = FIRST + np.array([303 * 3, 384 * 3])
    look_at(viewer_model, image, other + 150, 1.5)
    click(session, viewer_model, *(other + COIN))
    assert session._annotator.encoded.shown != shown
    assert overlap(preview(viewer_model), plain, other) > 0.85
    session.undo()
    assert not preview(viewer_model).any()
    session.redo()
    assert session.wait(WAIT)
    assert overlap(preview(viewer_model), plain, other) > 0.85
    # as far away as no window reaches from there, without moving the view
    session.clear()
    click(session, viewer_model, *np.add(COIN, 2))
    assert overlap(preview(viewer_model), plain, np.zeros(2)) > 0.5


def test_another_zoom_encodes_anew(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(big(coins, 3), multiscale=True, contrast_limits=(0, 255))
    session.start(image)
    assert session.wait(WAIT)
    annotator = session._annotator
    assert (annotator.encoded.shown.level, annotator.encoded.shown.origin) == (1, None), "all of it is looked at"
    look_at(viewer_model, image, FIRST + COIN, 2)
    assert annotator.encoded is not None, "looking is free"
    click(session, viewer_model, *(FIRST + COIN))
    near = annotator.encoded.shown
    assert near.level == 0
    look_at(viewer_model, image, FIRST + COIN + 5, 2.2)
    viewer_model.layers["SAM prompts"].add(FIRST + COIN + 3)
    assert not session.lane.busy("embed"), "about the same zoom, and in the same place"
    assert session.wait(WAIT)
    viewer_model.reset_view()
    with pytest.raises(ValueError, match="being encoded as it looks now"):
        session.everything.search(4, 0)
    assert session.wait(WAIT)
    assert annotator.encoded.shown.level == 1


def test_a_label_keeps_what_lies_outside_of_the_window(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(big(coins, 1), contrast_limits=(0, 255))
    mine = np.zeros(image.data.shape, dtype=np.uint16)
    row, col = (FIRST + COIN).astype(int)
    mine[row - 8 : row + 8, col - 8 : col + 8] = 1
    mine[100:120, 100:140] = 1
    labels = viewer_model.add_labels(mine.copy())
    look_at(viewer_model, image, FIRST + COIN, 2)
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    encoded = session._annotator.encoded
    part = session._annotator.labels.mask_of(1, labels, encoded.image, encoded.shown)
    assert part.area == 256, "the part in the window"
    session.edit(1)
    assert session.wait(WAIT)
    assert session.accept() == 1
    assert np.array_equal(labels.data, mine), "nothing is lost, nothing changes"
    session.edit(1)
    assert session.wait(WAIT)
    whole = session._annotator.encoded.shown
    assert whole.origin is None or (np.array(whole.shape) > [row - 100, col - 100]).all()


def test_a_search_covers_what_is_looked_at(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(big(coins, 1), contrast_limits=(0, 255))
    look_at(viewer_model, image, FIRST + 150, 2)
    session.start(image)
    assert session.wait(WAIT)
    session.everything.filter(0.6, 0.6)
    session.everything.search(5, 0)
    assert session.wait(WAIT)
    assert session.everything.accept() > 3
    rows, cols = np.nonzero(session.masks.layer.data)
    shown = session._annotator.encoded.shown
    low, high = np.array(shown.origin), np.array(shown.origin) + shown.shape
    assert (low <= [rows.min(), cols.min()]).all()
    assert ([rows.max(), cols.max()] < high).all()
    session.undo()
    assert not session.masks.layer.data.any()


def test_a_window_lies_where_its_pixels_are(viewer_model: ViewerModel) -> None:
    fine = np.arange(6000 * 5000, dtype=np.float32).reshape(6000, 5000)
    place = {"scale": (0.3, 0.2), "translate": (11, -5), "rotate": 25}
    image = viewer_model.add_image([fine, fine[::3, ::4]], multiscale=True, **place)
    for zoom in (30, 2, 0.9):
        look_at(viewer_model, image, np.array([4000.0, 1000.0]), zoom * 0.25)
        source = read_view(image, viewer_model, np.array([[3990.0, 1020.0]]))
        shown, full = source.shown, shown_plane(image, viewer_model.dims)
        points = np.array([[0.0, 0.0], [7, 3], [100, 200]])
        data = shown.to_data(points)
        assert np.allclose(shown.from_data(data), points)
        matrix = plane_affine(image, shown, image, full, viewer_model.dims)
        assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], data)
        at = np.round((data + 0.5) / shown.step - 0.5).astype(int)
        values = np.asarray(source.data)[tuple(points.astype(int).T)]
        assert np.array_equal(values, image.data[shown.level][tuple(at.T)])
        assert serves(shown, in_view(image, viewer_model, 4096, np.array([[3990.0, 1020.0]])), image, data[1:])
    look_at(viewer_model, image, np.array([-9000.0, 0.0]), 4)
    assert read_view(image, viewer_model).shown == shown_plane(image, viewer_model.dims, 4096), "nothing is in view"


def test_pictures_that_can_be_encoded_whole_are(viewer_model: ViewerModel) -> None:
    image = viewer_model.add_image(np.zeros((3000, 4096), dtype=np.uint8))
    look_at(viewer_model, image, np.array([30.0, 30.0]), 20)
    assert read_view(image, viewer_model).shown == shown_plane(image, viewer_model.dims)
