"""Refining: a label is its own pixels until a click changes it, near the click alone."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT

NUMBER = 7


def _filament(size: int) -> NDArray[np.bool_]:
    rows = np.arange(size // 8, size - size // 8)
    mask = np.zeros((size, size), dtype=bool)
    mask[rows, rows] = mask[rows, rows + 1] = True
    return mask


def _dots(size: int) -> NDArray[np.bool_]:
    """Round parts of eight pixels, sixteen of them."""
    rows, cols = np.mgrid[:size, :size]
    step = size // 4
    return ((rows % step - step // 2) ** 2 + (cols % step - step // 2) ** 2) <= 16


def _checkerboard(size: int) -> NDArray[np.bool_]:
    """Single pixels, of which no low-resolution canvas holds one."""
    rows, cols = np.mgrid[:size, :size]
    inside = (np.abs(rows - size // 2) < 20) & (np.abs(cols - size // 2) < 20)
    return inside & ((rows + cols) % 2 == 0)


def _refining(
    session: AnnotationSession, viewer: ViewerModel, mask: NDArray[np.bool_], picture: NDArray[np.uint8] | None = None
) -> Labels:
    """Start on a picture that shows a mask, and refine that label."""
    noise = np.random.default_rng(0).normal(60, 5, mask.shape)
    seen = np.clip(np.where(mask, 220, noise), 0, 255).astype(np.uint8) if picture is None else picture
    labels = viewer.add_labels(np.where(mask, NUMBER, 0).astype(np.uint16), name="mine")
    session.start(viewer.add_image(seen, name="picture"), labels=labels)
    assert session.wait(WAIT)
    session.edit(NUMBER)
    assert session.wait(WAIT)
    return labels


@pytest.mark.parametrize(
    ("shape", "size"), [(_filament, 1024), (_filament, 256), (_dots, 4096), (_dots, 300), (_checkerboard, 512)]
)
def test_a_label_that_nobody_clicked_on_keeps_every_pixel(
    session: AnnotationSession, viewer_model: ViewerModel, shape: object, size: int
) -> None:
    assert callable(shape)
    mask = shape(size)
    labels = _refining(session, viewer_model, mask)
    assert np.array_equal(viewer_model.layers["SAM preview"].data == 1, mask), "what is on offer is the label"
    assert session.accept() == NUMBER
    assert session.wait(WAIT)
    assert np.array_equal(labels.data == NUMBER, mask)
    assert session.state.message == f"Label {NUMBER} stays as it was."
    assert session.state.editing == 0


def _two_parts() -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return a label of a disk and a far bar, too small for its disk, and the picture."""
    rows, cols = np.mgrid[:240, :320]
    disk = (rows - 80) ** 2 + (cols - 80) ** 2 < 30**2
    bar = (np.abs(rows - 200) < 3) & (np.abs(cols - 230) < 50)
    picture = np.where(disk | bar, 200, 50) + np.random.default_rng(0).normal(0, 4, disk.shape)
    half = disk & (cols < 80)
    return half | bar, np.clip(picture, 0, 255).astype(np.uint8)


def test_a_click_changes_the_part_that_it_is_near_to_and_no_other(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    mask, picture = _two_parts()
    labels = _refining(session, viewer_model, mask, picture)
    viewer_model.layers["SAM prompts"].add([80, 95])
    assert session.wait(WAIT)
    assert session.accept() == NUMBER
    held = labels.data == NUMBER
    assert np.array_equal(held[170:], mask[170:]), "the bar, far away, has each of its pixels"
    assert held[60:100, 85:100].all(), "the other half of the disk is there now"
    assert held[mask].mean() > 0.99
    session.undo()
    assert session.wait(WAIT)
    assert np.array_equal(labels.data == NUMBER, mask)


def test_a_background_click_takes_one_part_and_leaves_the_other(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    mask, picture = _two_parts()
    labels = _refining(session, viewer_model, mask, picture)
    session.toggle_foreground(False)
    viewer_model.layers["SAM prompts"].add([200, 230])
    assert session.wait(WAIT)
    session.accept()
    held = labels.data == NUMBER
    assert np.array_equal(held[:150], mask[:150]), "the disk was not clicked on"


def test_a_click_beside_a_filament_leaves_the_filament(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    mask = _filament(512)
    labels = _refining(session, viewer_model, mask)
    viewer_model.layers["SAM prompts"].add([400, 150])
    assert session.wait(WAIT)
    session.accept()
    rows = np.mgrid[:512, :512][0]
    far = mask & (rows < 300)
    assert (labels.data[far] == NUMBER).all()


def test_other_labels_stay_when_one_is_refined_over_them(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    mask, picture = _two_parts()
    labels = _refining(session, viewer_model, mask, picture)
    labels.data[60:100, 90:100] = 3
    viewer_model.layers["SAM prompts"].add([80, 85])
    assert session.wait(WAIT)
    session.accept()
    assert (labels.data[60:100, 90:100] == 3).all()


def test_after_refine_the_layer_for_clicks_is_selected_and_adds(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    mask, picture = _two_parts()
    labels = viewer_model.add_labels(np.where(mask, NUMBER, 0).astype(np.uint16), name="mine")
    session.start(viewer_model.add_image(picture, name="picture"), labels=labels)
    assert session.wait(WAIT)
    viewer_model.layers.selection.active = labels
    labels.mode = "pick"
    session.edit(NUMBER)
    assert viewer_model.layers.selection.active is viewer_model.layers["SAM prompts"]
    assert str(viewer_model.layers["SAM prompts"].mode) == "add"
    assert session.state.editing == NUMBER


def test_refining_can_be_begun_again_while_the_last_one_waits(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    """Two refinements in a row, faster than the model: the second does not take the first one's place."""
    mask, picture = _two_parts()
    labels = _refining(session, viewer_model, mask, picture)
    viewer_model.layers["SAM prompts"].add([80, 95])
    session.accept()
    labels.data[10:20, 200:220] = 9
    labels.refresh()
    session.edit(9)
    session.accept()
    assert session.wait(WAIT)
    assert (labels.data == 9).sum() == 200
    assert (labels.data[60:100, 85:100] == NUMBER).all()
    assert (labels.data[170:] == NUMBER).sum() == mask[170:].sum()
