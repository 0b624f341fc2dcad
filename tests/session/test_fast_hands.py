"""A user who is faster than the model: an Enter belongs to the clicks before it, and objects wait in order."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT

OTHER = (120.0, 50.0)
ROWS, COLS, APART = 5, 8, 40


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of forty disks, and their centres (40, 2)."""
    rows, cols = np.mgrid[: ROWS * APART, : COLS * APART]
    centres = np.array([(r * APART + 20, c * APART + 20) for r in range(ROWS) for c in range(COLS)], dtype=float)
    lit = ((rows % APART - 20) ** 2 + (cols % APART - 20) ** 2) < 12**2
    noise = np.random.default_rng(0).normal(0, 5, lit.shape)
    return np.clip(np.where(lit, 190, 50) + noise, 0, 255).astype(np.uint8), centres


def test_forty_objects_clicked_while_the_image_is_encoded_become_forty_labels_in_order(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    picture, centres = _grid()
    session.start(viewer_model.add_image(picture, name="disks"))
    for number, at in enumerate(centres, start=1):
        viewer_model.layers["SAM prompts"].add(at)
        assert session.accept() is None
        assert session.state.waiting == number
    assert session.wait(WAIT)
    assert session.state.waiting == 0
    labels = viewer_model.layers["disks masks"].data
    under = labels[tuple(centres.astype(int).T)]
    assert under.tolist() == list(range(1, 41))
    areas = np.bincount(labels.ravel())[1:]
    assert ((areas > 300) & (areas < 620)).all(), "each is one disk of 441 pixels"


def test_forty_waiting_objects_are_taken_back_and_brought_again_one_by_one(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    picture, centres = _grid()
    session.start(viewer_model.add_image(picture, name="disks"))
    for at in centres[:6]:
        viewer_model.layers["SAM prompts"].add(at)
        session.accept()
    for _ in range(4):  # Enter and click of two objects
        session.undo()
    assert session.state.waiting == 4
    assert session.wait(WAIT)
    labels = viewer_model.layers["disks masks"].data
    assert labels.max() == 4
    for _ in range(4):
        session.redo()
    assert session.wait(WAIT)
    assert labels[tuple(centres[:6].astype(int).T)].tolist() == [1, 2, 3, 4, 5, 6]
    while session.state.can_undo:
        session.undo()
    assert session.wait(WAIT)
    assert not labels.any()


def test_an_object_that_waits_keeps_its_own_clicks_and_boxes(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    points, shapes = viewer_model.layers["SAM prompts"], viewer_model.layers["SAM shapes"]
    points.add(np.array(COIN))
    started.accept()
    row, col = OTHER
    shapes.add(
        np.array([[row - 25, col - 25], [row - 25, col + 25], [row + 25, col + 25], [row + 25, col - 25]]),
        shape_type="rectangle",
    )
    started.accept()
    points.add(np.array(COIN))  # a third one, not accepted
    assert started.wait(WAIT)
    labels = viewer_model.layers["coins masks"].data
    assert (labels[52, 49], labels[120, 50]) == (1, 2)
    assert started.state.scores
    assert shapes.nshapes == 0
    assert len(points.data) == 1


@pytest.mark.parametrize("how", ["escape", "undo", "stop"])
def test_what_waits_can_be_taken_back(session: AnnotationSession, viewer_model: ViewerModel, how: str) -> None:
    picture, centres = _grid()
    session.start(viewer_model.add_image(picture, name="disks"))
    for at in centres[:3]:
        viewer_model.layers["SAM prompts"].add(at)
        session.accept()
    left = {"escape": 2, "undo": 2, "stop": 0}[how]
    {"escape": session.clear, "undo": session.undo, "stop": session.stop}[how]()
    assert session.state.waiting == left
    assert session.wait(WAIT)
    made = [layer for layer in viewer_model.layers if layer.name == "disks masks"]
    assert (int(made[0].data.max()) if made else 0) == left


def test_waiting_objects_of_two_slices_are_written_each_in_its_own(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    picture, centres = _grid()
    viewer_model.add_image(np.stack([picture, picture[::-1]]), name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start()
    for at in range(2):
        viewer_model.dims.set_current_step(0, at)
        for centre in centres[2 * at : 2 * at + 2]:
            viewer_model.layers["SAM prompts"].add([at, *centre])
            session.accept()
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    labels = viewer_model.layers["stack masks"].data
    assert np.unique(labels[0]).tolist() == [0, 1, 2]
    assert np.unique(labels[1]).tolist() == [0, 3, 4]


def test_leaving_the_image_says_how_many_objects_waited(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    picture, centres = _grid()
    session.start(viewer_model.add_image(picture, name="disks"))
    for at in centres[:2]:
        viewer_model.layers["SAM prompts"].add(at)
        session.accept()
    session.finish()
    assert session.state.message.startswith("2 accepted without a mask yet")
    assert session.state.waiting == 0
